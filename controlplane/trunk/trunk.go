// Package trunk owns the connections to carriers, gateways and other exchanges: where calls are sent, and from which
// networks they come. Choosing a trunk for a call, and counting what it carries, is left to package edges.
package trunk

import (
	"net/netip"
	"regexp"
	"slices"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// ModePeer is a trunk that is told apart by its networks and never registers (NNI).
const ModePeer = "peer"

// Which header holds the caller's number, in both directions.
const (
	HeaderFrom = "from"
	HeaderPAI  = "p_asserted_identity" // RFC 3325
)

// Trunk is a connection to another exchange.
type Trunk struct {
	bun.BaseModel `bun:"table:trunks" json:"-"`
	db.Row
	Draft

	// Password answers the other side's digest challenge, so that it has to be kept as it is. It is never shown.
	Password string `bun:"password,nullzero" json:"-"`
}

// Draft is what a caller decides of a trunk, beside the password. The defaults of absent fields are the
// specification's.
type Draft struct {
	Name           string   `bun:"name" json:"name"`
	Mode           string   `bun:"mode" json:"mode"`
	Address        string   `bun:"address" json:"address"` // host name or IP address
	Port           int      `bun:"port" json:"port"`
	Transport      string   `bun:"transport" json:"transport"`          // udp, tcp
	Networks       []string `bun:"networks,type:jsonb" json:"networks"` // CIDRs, masked
	Username       string   `bun:"username,nullzero" json:"username,omitempty"`
	Realm          string   `bun:"realm,nullzero" json:"realm,omitempty"`
	MaxCalls       int      `bun:"max_calls" json:"max_calls"` // at once, both directions; 0 for no limit
	CallerID       string   `bun:"caller_id,nullzero" json:"caller_id,omitempty"`
	CallerIDHeader string   `bun:"caller_id_header" json:"caller_id_header"`
}

// A host name (RFC 1123 §2.1).
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$`)

// Check refuses what the specification cannot say, and writes the networks in their one form: masked, sorted, each
// once.
func (d *Draft) Check() error {
	if d.Mode != ModePeer {
		return problem.RefusedField("/mode", "mode", "%s is not to be had yet; use peer", d.Mode)
	}
	if _, err := netip.ParseAddr(d.Address); err != nil && !hostName.MatchString(d.Address) {
		return problem.InvalidField("/address", "format", "must be a host name or an IP address")
	}
	networks := make([]string, 0, len(d.Networks))
	for i, text := range d.Networks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return problem.InvalidField("/networks", "cidr", "entry %d must be a network such as 192.0.2.0/24", i)
		}
		networks = append(networks, normal(network).String())
	}
	slices.Sort(networks)
	d.Networks = slices.Compact(networks)
	return nil
}

// normal is a network masked, and an IPv4 one written as IPv4.
func normal(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// network is a row of the networks of all trunks.
type network struct {
	bun.BaseModel `bun:"table:trunk_networks"`

	Network   string `bun:"network,pk"`
	TrunkID   string `bun:"trunk_id,pk"`
	AccountID string `bun:"account_id"`
	Bits      int64  `bun:"bits"`
}
