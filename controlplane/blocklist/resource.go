package blocklist

import "github.com/hookswitch/hookswitch/controlplane/rest"

// Resource is how entries are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Entry, written] { return s.entries() }
