package number

import "github.com/hookswitch/hookswitch/controlplane/rest"

// Resource is how numbers are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Number, draft] { return s.resource() }
