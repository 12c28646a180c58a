package site

import (
	"slices"
	"strings"

	"bothy/application/directory"
	"bothy/application/odmr"
)

// reach is who is here as far as a provider may bring mail for them. One that is asked for all it has may write any domain into that: it
// reaches nobody in a domain that another provider is asked for by name.
type reach struct {
	*directory.Directory
	site *Site
	cfg  odmr.CustomerConfig // of the provider
}

// Local implements odmr.Recipients.
func (r reach) Local(domain string) bool { return r.Directory.Local(domain) && !r.elsewhere(domain) }

// handed is the same for what goes to another server here.
func (r reach) handed(domain string) bool {
	return r.site.router.Handed(domain) && !r.elsewhere(domain)
}

func (r reach) elsewhere(domain string) bool {
	now := r.site.current.Load()
	if len(r.cfg.Domains) > 0 || now == nil { // nil: nothing runs yet
		return false
	}
	return slices.ContainsFunc(now.cfg.Fetch, func(f FetchConfig) bool {
		return f.Provider != "" && slices.ContainsFunc(f.Domains, func(d string) bool { return strings.EqualFold(d, domain) })
	})
}
