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

// CustomersRequest chooses a page of the customers.
type CustomersRequest struct {
	After string `json:"after,omitempty"` // the last account of the page before
	Limit int    `json:"limit,omitempty"` // at most 1000, which 0 stands for
}

// CustomerList is the answer to GET /v1/customers: a page, sorted by account.
type CustomerList struct {
	Customers []CustomerStatus `json:"customers"`
	More      bool             `json:"more"`
}

const maxCustomers = 1000 // of a page

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

func (s *Site) customerList(ctx context.Context, q CustomersRequest) (list CustomerList, err error) {
	if q.Limit <= 0 || q.Limit > maxCustomers {
		q.Limit = maxCustomers
	}
	page, more, err := s.directory.CustomersAfter(ctx, q.After, q.Limit)
	list = CustomerList{Customers: make([]CustomerStatus, 0, len(page)), More: more}
	for _, c := range page {
		list.Customers = append(list.Customers, s.customer(c))
	}
	return list, err
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
