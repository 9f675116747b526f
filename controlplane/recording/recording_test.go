package recording_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is recordings with a call to be recorded, behind the REST API and with blobs on disk behind HTTP.
type fixture struct {
	*resttest.Server
	recordings *recording.Service
	calls      *call.Service
	blobs      *blob.Store
	folder     string
	http       *http.Client
	sequence   int64
}

const callID webhooks.CallID = "call_1"

func newFixture(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(web.Close)
	folder := t.TempDir()
	blobs, err := blob.Open(t.Context(), "file:"+folder, blob.Options{BaseURL: web.URL, Secret: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	handler = blobs.Handler()
	f := &fixture{calls: &call.Service{DB: d}, blobs: blobs, folder: folder, http: web.Client()}
	f.recordings = &recording.Service{DB: d, Blobs: blobs, Calls: f.calls}
	f.calls.Also = append(f.calls.Also, f.recordings.Apply)
	f.Server = resttest.Mount(t, d, spec, f.recordings.Operations())
	f.event(t, webhooks.EventCallInitiated, webhooks.EventData{From: "1001", To: "1000", Direction: webhooks.Inbound})
	return f
}

func owner() call.Owner {
	return call.Owner{EdgeID: "edge_1", BootID: "boot_1", Epoch: 1, AccountID: resttest.Account, CallID: callID}
}

func (f *fixture) event(t *testing.T, kind webhooks.EventType, data webhooks.EventData) {
	t.Helper()
	f.sequence++
	e := webhooks.Event{ID: webhooks.NewEventID(), Type: kind, Sequence: f.sequence, OccurredAt: db.Now(), Data: data}
	if _, err := f.calls.Publish(t.Context(), call.Batch{Owner: owner(), Events: []webhooks.Event{e}}); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) start(t *testing.T, id webhooks.RecordingID, codec string, channels int) {
	t.Helper()
	f.event(t, webhooks.EventRecordingStarted, webhooks.EventData{RecordingID: id, Channels: channels, Format: "wav", Codec: codec})
}

// ship puts a segment as an edge does.
func (f *fixture) ship(t *testing.T, id webhooks.RecordingID, n int, body []byte) {
	t.Helper()
	g, err := f.recordings.Grant(t.Context(), owner(), id, n, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, g.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range g.Headers {
		r.Header.Set(name, value)
	}
	w, err := f.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Body.Close() }()
	if w.StatusCode/100 != 2 {
		t.Fatalf("PUT: %s", w.Status)
	}
}

func (f *fixture) finish(t *testing.T, fin recording.Finish) recording.Finished {
	t.Helper()
	fin.Owner = owner()
	done, err := f.recordings.Finish(t.Context(), fin)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func (f *fixture) read(t *testing.T, id webhooks.RecordingID) recording.Recording {
	t.Helper()
	var r recording.Recording
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/"+string(id), nil), http.StatusOK, &r)
	return r
}

// audio fetches a recording's file as a client of the REST API does.
func (f *fixture) audio(t *testing.T, id webhooks.RecordingID) []byte {
	t.Helper()
	w := f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/"+string(id)+"/media", nil)
	resttest.Want(t, w, http.StatusFound, nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Header().Get("Location"), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := f.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "audio/wav" {
		t.Fatalf("%s %s %v", response.Status, response.Header.Get("Content-Type"), err)
	}
	return body
}

// files lists what lies in the store, below recordings/ACCOUNT/.
func (f *fixture) files(t *testing.T) string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"rec_*.wav", "rec_*/*"} {
		found, err := filepath.Glob(filepath.Join(f.folder, "recordings", resttest.Account, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			name, err := filepath.Rel(filepath.Join(f.folder, "recordings", resttest.Account), path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, name)
		}
	}
	return strings.Join(all, " ")
}

// octets is G.711 of any kind.
func octets(n int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}

// linear decodes G.711 as ITU-T G.191's reference does, which shares nothing with the tables tested.
func linear(codec string, b byte) int16 {
	if codec == "PCMU" {
		inverted := int16(^b)
		exponent, mantissa := inverted>>4&7, inverted&15
		v := ((mantissa<<1+33)<<exponent - 33) << 2
		if b&0x80 == 0 {
			return -v
		}
		return v
	}
	x := int16(b^0x55) & 0x7f
	exponent, mantissa := x>>4, x&15
	if exponent > 0 {
		mantissa += 16
	}
	mantissa = mantissa<<4 + 8
	if exponent > 1 {
		mantissa <<= exponent - 1
	}
	if b&0x80 == 0 {
		return -mantissa
	}
	return mantissa
}

func TestARecordingIsItsSegmentsSampleForSample(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		for i, c := range []struct {
			codec    string
			channels int
			sizes    []int // octets of each segment
			samples  int64
		}{
			{"PCMU", 1, []int{24000, 24000, 801}, 48801},
			{"PCMA", 1, []int{8000}, 7201}, // what is beyond is silence that was cut
			{"PCMA", 2, []int{48000, 2}, 24001},
			{"PCMU", 2, []int{16000, 16000}, 8001}, // the second segment is cut after one sample
		} {
			id := webhooks.RecordingID(fmt.Sprintf("rec_%d", i))
			f.start(t, id, c.codec, c.channels)
			var raw []byte
			for n, size := range c.sizes {
				f.ship(t, id, n+1, octets(size))
				raw = append(raw, octets(size)...)
			}
			done := f.finish(t, recording.Finish{RecordingID: id, Codec: c.codec, Channels: c.channels, Segments: len(c.sizes), Samples: c.samples})
			wanted := int(c.samples) * c.channels
			if done.Size != int64(44+2*wanted) || done.Duration.Duration().Round(time.Millisecond) != (time.Duration(c.samples)*time.Second/8000).Round(time.Millisecond) {
				t.Errorf("%s: %+v", id, done)
			}
			got := f.audio(t, id)
			if len(got) != 44+2*wanted {
				t.Fatalf("%s: %d bytes, want %d", id, len(got), 44+2*wanted)
			}
			le := binary.LittleEndian
			if string(got[:4]) != "RIFF" || le.Uint32(got[4:]) != uint32(len(got)-8) || string(got[8:16]) != "WAVEfmt " || le.Uint16(got[20:]) != 1 ||
				le.Uint16(got[22:]) != uint16(c.channels) || le.Uint32(got[24:]) != 8000 || le.Uint32(got[28:]) != uint32(16000*c.channels) ||
				le.Uint16(got[32:]) != uint16(2*c.channels) || le.Uint16(got[34:]) != 16 || string(got[36:40]) != "data" || le.Uint32(got[40:]) != uint32(2*wanted) {
				t.Errorf("%s: header % x", id, got[:44])
			}
			for n, b := range raw[:wanted] {
				if v := int16(le.Uint16(got[44+2*n:])); v != linear(c.codec, b) {
					t.Fatalf("%s: sample %d is %d, want %d", id, n, v, linear(c.codec, b))
				}
			}
			r := f.read(t, id)
			if r.Status != recording.StatusCompleted || r.Size != done.Size || r.Duration != done.Duration || r.Channels != c.channels || r.Format != "wav" || r.CallID != callID || r.Failure != "" {
				t.Errorf("%s: %+v", id, r)
			}
		}
		if got := f.files(t); got != "rec_0.wav rec_1.wav rec_2.wav rec_3.wav" {
			t.Errorf("stored: %s", got)
		}
	})
}

func TestKnownValuesOfG711(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	for codec, values := range map[string]map[byte]int16{
		// ITU-T G.711 tables 1 and 2, scaled to 16 bits.
		"PCMU": {0x00: -32124, 0x80: 32124, 0x7f: 0, 0xff: 0, 0xfe: 8, 0x7e: -8, 0xf0: 120, 0xef: 132, 0x8f: 16764},
		"PCMA": {0xd5: 8, 0x55: -8, 0xaa: 32256, 0x2a: -32256, 0xd4: 24, 0xc5: 264, 0xf5: 528, 0x80: 5504},
	} {
		id := webhooks.RecordingID("rec_" + codec)
		f.start(t, id, codec, 1)
		var body []byte
		for b := range values {
			body = append(body, b)
		}
		f.ship(t, id, 1, body)
		f.finish(t, recording.Finish{RecordingID: id, Codec: codec, Channels: 1, Segments: 1, Samples: int64(len(body))})
		got := f.audio(t, id)[44:]
		for i, b := range body {
			if v := int16(binary.LittleEndian.Uint16(got[2*i:])); v != values[b] {
				t.Errorf("%s %#x: %d, want %d", codec, b, v, values[b])
			}
		}
	}
}

func TestFinishingAgainGivesTheSameAndMoreSegmentsMakeTheFileAnew(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.start(t, "rec_1", "PCMA", 1)
		f.ship(t, "rec_1", 1, octets(8000))
		fin := recording.Finish{RecordingID: "rec_1", Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000}
		first, again := f.finish(t, fin), f.finish(t, fin)
		if first != again {
			t.Errorf("first %+v, again %+v", first, again)
		}
		etag := f.read(t, "rec_1").Etag
		f.ship(t, "rec_1", 1, octets(8000))
		f.ship(t, "rec_1", 2, octets(4000))
		fin.Segments, fin.Samples = 2, 12000
		if done := f.finish(t, fin); done.Size != 44+24000 || done.Duration != 1.5 {
			t.Errorf("anew: %+v", done)
		}
		if r := f.read(t, "rec_1"); r.Etag == etag || r.Size != 44+24000 {
			t.Errorf("%+v", r)
		}
	})
}

func TestWhatIsMissingOfARecordingIsSaid(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	f.start(t, "rec_1", "PCMA", 1)
	f.ship(t, "rec_1", 1, octets(8000))
	done := f.finish(t, recording.Finish{RecordingID: "rec_1", Codec: "PCMA", Channels: 1, Segments: 3, Samples: 20000})
	if r := f.read(t, "rec_1"); done.Duration != 1 || r.Status != recording.StatusCompleted || r.Failure == "" {
		t.Errorf("in part: %+v %+v", done, r)
	}
	f.start(t, "rec_2", "PCMA", 1)
	f.finish(t, recording.Finish{RecordingID: "rec_2", Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000, Failure: "the disk was full"})
	if r := f.read(t, "rec_2"); r.Status != recording.StatusFailed || r.Failure != "the disk was full" {
		t.Errorf("wholly: %+v", r)
	}
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/rec_2/media", nil), http.StatusNotFound, nil)
}

func TestARecordingThatComesBeforeItsNewsIsKept(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	f.ship(t, "rec_1", 1, octets(8000))
	f.finish(t, recording.Finish{RecordingID: "rec_1", Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000})
	f.start(t, "rec_1", "PCMA", 1)
	f.event(t, webhooks.EventRecordingFailed, webhooks.EventData{RecordingID: "rec_1", Code: "write", Message: "late"})
	if r := f.read(t, "rec_1"); r.Status != recording.StatusCompleted || r.Duration != 1 {
		t.Errorf("%+v", r)
	}
}

func TestFailedRecordingsAreKeptAndEmptyOnesAreNone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.start(t, "rec_1", "PCMA", 1)
		f.start(t, "rec_2", "PCMA", 1)
		f.event(t, webhooks.EventRecordingFailed, webhooks.EventData{RecordingID: "rec_1", Code: "empty", Message: "nothing was said"})
		f.event(t, webhooks.EventRecordingFailed, webhooks.EventData{RecordingID: "rec_2", Code: "spool", Message: "the disk may be full"})
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/rec_1", nil), http.StatusNotFound, nil)
		if r := f.read(t, "rec_2"); r.Status != recording.StatusFailed || r.Failure != "the disk may be full" {
			t.Errorf("%+v", r)
		}
		var page struct{ Data []recording.Recording }
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings?status=failed&call_id=call_1", nil), http.StatusOK, &page)
		if len(page.Data) != 1 || page.Data[0].ID != "rec_2" {
			t.Errorf("%+v", page)
		}
	})
}

func TestARecordingIsDeletedWithItsBytesAndItsRowStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.start(t, "rec_1", "PCMA", 1)
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/rec_1/media", nil), http.StatusConflict, nil)
		f.ship(t, "rec_1", 1, octets(8000))
		fin := recording.Finish{RecordingID: "rec_1", Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000}
		f.finish(t, fin)
		f.ship(t, "rec_1", 1, octets(8000))
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/recordings/rec_1", nil, "If-Match", `"1"`), http.StatusPreconditionFailed, nil)
		for range 2 {
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/recordings/rec_1", nil), http.StatusNoContent, nil)
		}
		if r := f.read(t, "rec_1"); r.Status != recording.StatusDeleted || f.files(t) != "" {
			t.Errorf("%+v, stored: %s", r, f.files(t))
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/rec_1/media", nil), http.StatusNotFound, nil)
		// An edge that is not done with it yet is told.
		fin.Owner = owner()
		if _, err := f.recordings.Finish(t.Context(), fin); !errors.Is(err, call.ErrRefused) {
			t.Errorf("Finish: %v", err)
		}
		if _, err := f.recordings.Grant(t.Context(), owner(), "rec_1", 2, 100); !errors.Is(err, call.ErrRefused) {
			t.Errorf("Grant: %v", err)
		}
	})
}

func TestWhoMayShipARecording(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	f.start(t, "rec_1", "PCMA", 1)
	if _, err := f.DB.Write().NewRaw("UPDATE calls SET epoch = 2").Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := func(change func(*call.Owner)) call.Owner {
		o := owner()
		o.Epoch = 2
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		owner call.Owner
		id    webhooks.RecordingID
		want  error // nil with later: neither, the edge is to try again
		later bool
	}{
		"its owner":           {o(func(*call.Owner) {}), "rec_1", nil, false},
		"one before":          {o(func(o *call.Owner) { o.Epoch = 1 }), "rec_1", call.ErrFenced, false},
		"another account":     {o(func(o *call.Owner) { o.AccountID = resttest.OtherAccount }), "rec_1", call.ErrRefused, false},
		"an id that is none":  {o(func(*call.Owner) {}), "rec_1/../x", call.ErrRefused, false},
		"a call not yet here": {o(func(o *call.Owner) { o.CallID = "call_2" }), "rec_2", nil, true},
	} {
		_, err := f.recordings.Grant(t.Context(), c.owner, c.id, 1, 10)
		_, finishing := f.recordings.Finish(t.Context(), recording.Finish{Owner: c.owner, RecordingID: c.id, Codec: "PCMA", Channels: 1, Samples: 1})
		for _, err := range []error{err, finishing} {
			switch {
			case c.later && (err == nil || errors.Is(err, call.ErrRefused) || errors.Is(err, call.ErrFenced)):
				t.Errorf("%s: %v", name, err)
			case !c.later && !errors.Is(err, c.want):
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
	}
}

func TestALostRecordingIsMadeOfWhatWasShipped(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.start(t, "rec_1", "PCMU", 2)
		f.start(t, "rec_2", "PCMU", 1)
		f.ship(t, "rec_1", 1, octets(16000))
		f.ship(t, "rec_1", 2, octets(8000))
		gone := call.Abandoned{Edge: "edge_1"}
		if ids, err := f.recordings.Abandoned(t.Context(), gone, 10); err != nil || len(ids) != 0 {
			t.Errorf("of a live call: %v, %v", ids, err)
		}
		if _, err := f.calls.Lose(t.Context(), callID, db.Now()); err != nil {
			t.Fatal(err)
		}
		ids, err := f.recordings.Abandoned(t.Context(), gone, 10)
		if err != nil || len(ids) != 2 {
			t.Fatalf("%v, %v", ids, err)
		}
		if other, err := f.recordings.Abandoned(t.Context(), call.Abandoned{Edge: "edge_1", ExceptBoot: "boot_1"}, 10); err != nil || len(other) != 0 {
			t.Errorf("of another life: %v, %v", other, err)
		}
		of, kind, data, told, err := f.recordings.Rescue(t.Context(), "rec_1")
		if err != nil || !told || of != callID || kind != webhooks.EventRecordingCompleted || *data.Duration != 1.5 || data.Size != 44+48000 {
			t.Errorf("rec_1: %s %s %+v %t %v", of, kind, data, told, err)
		}
		if _, kind, _, told, err := f.recordings.Rescue(t.Context(), "rec_2"); err != nil || !told || kind != webhooks.EventRecordingFailed {
			t.Errorf("rec_2: %s %t %v", kind, told, err)
		}
		if _, _, _, told, err := f.recordings.Rescue(t.Context(), "rec_1"); err != nil || told {
			t.Errorf("rec_1 again: %t %v", told, err)
		}
		if got := f.audio(t, "rec_1"); len(got) != 44+48000 {
			t.Errorf("%d bytes", len(got))
		}
		if r := f.read(t, "rec_2"); r.Status != recording.StatusFailed || r.Failure == "" {
			t.Errorf("%+v", r)
		}
		// The edge was only cut off, and ships the rest.
		f.ship(t, "rec_1", 3, octets(4000))
		done := f.finish(t, recording.Finish{RecordingID: "rec_1", Codec: "PCMU", Channels: 2, Segments: 3, Samples: 14000})
		if r := f.read(t, "rec_1"); done.Duration != 1.75 || r.Failure != "" || f.files(t) != "rec_1.wav" {
			t.Errorf("%+v %+v, stored: %s", done, r, f.files(t))
		}
	})
}

func TestAnEdgeFetchesARecordingOfItsAccountAlone(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	f.start(t, "rec_1", "PCMA", 1)
	f.ship(t, "rec_1", 1, octets(8000))
	f.finish(t, recording.Finish{RecordingID: "rec_1", Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000})
	link, etag, err := f.recordings.URL(t.Context(), resttest.Account, "rec_1")
	if err != nil || link == "" || etag == "" {
		t.Errorf("%q %q %v", link, etag, err)
	}
	if _, _, err := f.recordings.URL(t.Context(), resttest.OtherAccount, "rec_1"); err == nil {
		t.Error("another account's edge may fetch it")
	}
}

func TestEveryOperationKeepsThePromisesOfTheAPI(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			open := func(t *testing.T) *resttest.Server {
				f = newFixture(t, dbtest.Open(t, location(t)))
				return f.Server
			}
			record := func(t *testing.T, id webhooks.RecordingID) {
				f.start(t, id, "PCMA", 1)
				f.ship(t, id, 1, octets(8000))
				f.finish(t, recording.Finish{RecordingID: id, Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000})
			}
			resttest.Run(t, open, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					record(t, "rec_1")
					return map[string]string{"recording_id": "rec_1"}
				},
				More: func(t *testing.T, _ *resttest.Server) { record(t, "rec_2") },
			})
		})
	}
}

func TestReadingMediaLeavesAnAuditEntryWithoutTheURL(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	f.start(t, "rec_1", "PCMA", 1)
	f.ship(t, "rec_1", 1, octets(8000))
	f.finish(t, recording.Finish{RecordingID: "rec_1", Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000})
	var signed recording.SignedURL
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/rec_1/media?as=json", nil), http.StatusOK, &signed)
	if signed.URL == "" || time.Until(signed.ExpiresAt) > 16*time.Minute {
		t.Errorf("%+v", signed)
	}
	var entry rest.AuditEntry
	if err := f.DB.Read().NewSelect().Model(&entry).Where("operation = 'getRecordingMedia'").Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if entry.ObjectID != "rec_1" || entry.ActorID == "" || bytes.Contains(entry.After, []byte("http")) {
		t.Errorf("%+v", entry)
	}
}
