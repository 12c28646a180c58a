package site

import (
	"context"
	"errors"
	"net/http"
	"time"

	"bothy/application/directory"
	"bothy/application/odmr"
	"bothy/management/admin"
)

// CustomerStatus is one customer as this provider sees it now.
type CustomerStatus struct {
	odmr.Status          // LastContact is of the session that is open, or else of the last call
	Domains     []string `json:"domains"`

	Waiting       int       `json:"waiting"`        // messages; one for several of its domains counts for each
	WaitingOctets int64     `json:"waiting_octets"` // of their bodies
	Oldest        time.Time `json:"oldest,omitzero"`
}

// CustomerList is the answer to GET /v1/customers.
type CustomerList struct {
	Customers []CustomerStatus `json:"customers"`
}

// customers are all customers, sorted by account. Who shows metrics finds here what there is to show of each.
func (s *Site) customers(ctx context.Context) ([]CustomerStatus, error) {
	all, err := s.directory.Customers(ctx)
	if err != nil {
		return nil, err
	}
	statuses := make([]CustomerStatus, 0, len(all))
	for _, c := range all {
		statuses = append(statuses, s.customer(c))
	}
	return statuses, nil
}

func (s *Site) customer(c directory.Customer) CustomerStatus {
	waiting := s.backlog(c)
	status := CustomerStatus{
		Status: s.sessions.Status(c.Account), Domains: c.Domains,
		Waiting: waiting.Messages, WaitingOctets: waiting.Octets, Oldest: waiting.Oldest,
	}
	if status.LastContact.IsZero() {
		status.LastContact = c.LastContact
	}
	return status
}

func (s *Site) customerList(ctx context.Context, _ struct{}) (CustomerList, error) {
	all, err := s.customers(ctx)
	return CustomerList{all}, err
}

func (s *Site) customerShow(ctx context.Context, q struct{ Account string }) (CustomerStatus, error) {
	c, err := s.directory.Customer(ctx, q.Account)
	if errors.Is(err, directory.ErrNotFound) {
		return CustomerStatus{}, &admin.Error{Status: http.StatusNotFound, Text: err.Error(), Hint: "bothy customer list shows those that there are"}
	}
	if err != nil {
		return CustomerStatus{}, err
	}
	return s.customer(c), nil
}
