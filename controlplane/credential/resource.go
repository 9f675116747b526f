package credential

import "github.com/hookswitch/hookswitch/controlplane/rest"

// Resource is how extensions are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Credential, draft] { return s.resource() }
