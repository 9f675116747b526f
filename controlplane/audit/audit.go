// Package audit owns what is done with the audit's entries after they are written: reading and searching them, sealing
// them into a chain of signed batches, and proving that none was changed, removed or slipped in since (Verify). Writing
// an entry, in the transaction of the change it tells of, is left to rest and db.
//
// # How entries are sealed
//
// Nothing in SQL keeps somebody with the database's password from editing a row. What he cannot do is to edit it
// unseen. A worker (Sealer) takes the entries of each account that are in no batch yet, writes down the hash of each in
// a batch, signs the batch, and puts it into blob storage as well, as audit/ACCOUNT/NUMBER.json. A batch holds the hash
// of the batch before it, so that a batch cannot be taken out or exchanged either; and since blob storage knows the
// newest batches, the end of the chain cannot be cut off in SQL alone.
//
// Why a column sealed_in, written by the transaction that writes the batch: an entry's id and time are made before its
// transaction commits, so that an entry may appear after later ones have been sealed. A batch that took "all up to this
// id" would miss it, or need a delay that a long transaction outlasts. What counts here is only whether an entry is
// sealed; a late one goes into the next batch, and nothing has to wait.
//
// What it does not show: an entry that was removed before it was sealed (see Sealer.Within), and the forgeries of
// somebody who holds both the database, which has the signing key, and the blob storage. A bucket with object lock takes
// the second away.
package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"
)

// Entry is one change, or one read that is kept: who did what to which object, from where.
type Entry struct {
	bun.BaseModel `bun:"table:audit_entries" json:"-"`

	ID        string    `bun:"id,pk" json:"id"`
	AccountID string    `bun:"account_id" json:"-"`
	CreatedAt time.Time `bun:"created_at" json:"created_at"`
	ActorID   string    `bun:"actor_id" json:"actor_id"`   // a user, else a key
	Operation string    `bun:"operation" json:"operation"` // operationId
	ObjectID  string    `bun:"object_id" json:"object_id"`
	Status    int       `bun:"status" json:"status"` // of HTTP
	Address   string    `bun:"address" json:"address"`
	RequestID string    `bun:"request_id" json:"request_id"`
	// The object as JSON before and after, without secrets; nil where there was none.
	Before json.RawMessage `bun:"before,type:jsonb,nullzero" json:"before,omitempty"`
	After  json.RawMessage `bun:"after,type:jsonb,nullzero" json:"after,omitempty"`
	// Batch is the number of the account's batch that the entry is sealed in, 0 until then.
	Batch int64 `bun:"sealed_in,nullzero" json:"batch,omitempty"`
}

// Leaf is one entry of a batch.
type Leaf struct {
	ID     string `json:"id"`
	SHA256 string `json:"sha256"` // of the entry (see hash), in hex
}

// version is the form of batches, and of what is hashed of entries.
const version = 1

// Batch is one link of an account's chain. Its JSON is what is signed.
type Batch struct {
	Version   int    `json:"version"`
	AccountID string `json:"account_id"`
	Number    int64  `json:"number"` // from 1
	// Previous is the SHA-256 of the JSON of the batch before, in hex; empty for the first.
	Previous string    `json:"previous"`
	SealedAt time.Time `json:"sealed_at"`
	// LatestAt is the latest time of an entry, but at most SealedAt.
	LatestAt time.Time `json:"latest_at"`
	Count    int64     `json:"count"`
	FirstID  string    `json:"first_id"`
	LastID   string    `json:"last_id"`
	// Root is the running SHA-256 over the entries' hashes, in hex: of nothing it is 32 zero bytes, and each entry makes
	// it SHA-256(root before, entry's hash).
	Root      string `json:"root"`
	PublicKey string `json:"public_key"` // Ed25519, in base64
	Entries   []Leaf `json:"entries"`    // in the order of sealing: created_at, id
}

// signed is what the signature is of.
func (b Batch) signed() ([]byte, error) {
	b.SealedAt, b.LatestAt = b.SealedAt.UTC(), b.LatestAt.UTC()
	return json.Marshal(b)
}

// sum is the SHA-256 of what is signed, in hex.
func sum(signed []byte) string {
	h := sha256.Sum256(signed)
	return hex.EncodeToString(h[:])
}

// root is the running hash of the leaves.
func root(leaves []Leaf) (string, error) {
	running := make([]byte, sha256.Size)
	for _, leaf := range leaves {
		one, err := hex.DecodeString(leaf.SHA256)
		if err != nil {
			return "", fmt.Errorf("hash of %s: %w", leaf.ID, err)
		}
		next := sha256.Sum256(append(running, one...))
		running = next[:]
	}
	return hex.EncodeToString(running), nil
}

// sealed is a batch as blob storage has it. The bytes of Batch are kept as they were signed.
type sealed struct {
	Batch     json.RawMessage `json:"batch"`
	Signature string          `json:"signature"` // Ed25519, in base64
}

// read checks that the signature is one by this key, and gives the batch.
func (s sealed) read(key ed25519.PublicKey) (*Batch, error) {
	b := new(Batch)
	if err := json.Unmarshal(s.Batch, b); err != nil {
		return nil, fmt.Errorf("is no batch: %w", err)
	}
	if key == nil {
		return b, errors.New("cannot be checked without a public key")
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(s.Signature)
	if err != nil || !ed25519.Verify(key, s.Batch, signature) {
		return b, errors.New("has a signature that is not this installation's")
	}
	return b, nil
}

// row is a batch in SQL.
type row struct {
	bun.BaseModel `bun:"table:audit_batches"`

	AccountID string    `bun:"account_id,pk"`
	Number    int64     `bun:"number,pk"`
	Previous  string    `bun:"previous"`
	SealedAt  time.Time `bun:"sealed_at"`
	LatestAt  time.Time `bun:"latest_at"`
	Count     int64     `bun:"count"`
	FirstID   string    `bun:"first_id"`
	LastID    string    `bun:"last_id"`
	Root      string    `bun:"root"`
	Entries   []Leaf    `bun:"entries,type:jsonb"`
	PublicKey string    `bun:"public_key"`
	Signature string    `bun:"signature"`
	Rooted    bool      `bun:"rooted"`
}

func newRow(b Batch, signature []byte) *row {
	return &row{
		AccountID: b.AccountID, Number: b.Number, Previous: b.Previous, SealedAt: b.SealedAt, LatestAt: b.LatestAt, Count: b.Count,
		FirstID: b.FirstID, LastID: b.LastID, Root: b.Root, Entries: b.Entries, PublicKey: b.PublicKey,
		Signature: base64.StdEncoding.EncodeToString(signature),
	}
}

// sealed is the row in the form of blob storage.
func (r *row) sealed() (sealed, error) {
	text, err := Batch{
		Version: version, AccountID: r.AccountID, Number: r.Number, Previous: r.Previous, SealedAt: r.SealedAt, LatestAt: r.LatestAt,
		Count: r.Count, FirstID: r.FirstID, LastID: r.LastID, Root: r.Root, PublicKey: r.PublicKey, Entries: r.Entries,
	}.signed()
	return sealed{Batch: text, Signature: r.Signature}, err
}

// The blobs.
const (
	// keyBlob holds the public key of the first batch; nothing overwrites it.
	keyBlob = "audit/key.json"
	// noAccount is the folder of entries that belong to the installation.
	noAccount = "installation"
)

func batchBlob(account string, number int64) string {
	if account == "" {
		account = noAccount
	}
	return fmt.Sprintf("audit/%s/%d.json", account, number)
}

// publicKey is keyBlob's JSON.
type publicKey struct {
	PublicKey string    `json:"public_key"` // Ed25519, in base64
	CreatedAt time.Time `json:"created_at"`
}
