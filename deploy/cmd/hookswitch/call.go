package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/hookswitch/hookswitch/deploy/config"
	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/edge/media/wav"
)

// callSettings are the telephone's.
type callSettings struct {
	Data     string        `flag:"data" default:"./data" help:"folder whose credentials file says where to call and who to be"`
	Server   string        `flag:"server" help:"host:port of SIP; from the credentials by default"`
	From     string        `flag:"from" help:"number to show; the extension by default"`
	As       string        `flag:"as" default:"1001" help:"extension to call as; its password is in the credentials"`
	Password string        `flag:"password" help:"of --as, where the credentials have none" secret:"true"`
	Digits   string        `flag:"digits" help:"keys to press, such as 1@2s,5#@6s after the answer"`
	WAV      string        `flag:"wav" help:"file to speak"`
	HangUp   time.Duration `flag:"hangup" help:"hang up so long after the answer; otherwise the other side does"`
	Save     string        `flag:"save" help:"write what is heard into this WAV file"`
	TCP      bool          `flag:"tcp" help:"SIP over TCP"`
	Verbose  bool          `flag:"verbose" help:"log what the telephone's own SIP and media say"`
}

// errCallFailed makes the process exit with 1 when everything has been said already.
var errCallFailed = errors.New("the call failed")

func runCall(ctx context.Context, c cli) error {
	var s callSettings
	rest, err := config.Load(&s, c.args, c.environ, c.out)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return errors.New("say whom to call, such as: hookswitch call 1000")
	}
	known, _, err := readCredentials(s.Data)
	if err != nil {
		return err
	}
	call, err := s.call(rest[0], known)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if s.Verbose {
		log = slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	fmt.Fprintf(c.out, "calling %s at %s as %s\n", call.To, call.Server, call.From)
	report := phone.Place(ctx, call, log)
	if s.Save != "" {
		if err := os.WriteFile(s.Save, wav.Encode(wav.PCM{Samples: report.Heard, Rate: 8000, Channels: 1}), 0o600); err != nil {
			return err
		}
	}
	printLadder(c.out, report)
	printEvents(ctx, c.out, known, report.SIPCallID)
	printHeard(c.out, report)
	if report.Err != nil {
		fmt.Fprintln(c.out, "failed:", report.Err)
		return errCallFailed
	}
	return nil
}

// call makes the telephone's orders of the settings.
func (s callSettings) call(to string, known credentials) (phone.Call, error) {
	server := s.Server
	if server == "" {
		server = known.SIP
	}
	if server == "" {
		return phone.Call{}, fmt.Errorf("no --server, and no %s: start hookswitch up first, or say where to call", credentialsPath(s.Data))
	}
	addr, err := phone.Server(server)
	if err != nil {
		return phone.Call{}, err
	}
	presses, err := phone.ParsePresses(s.Digits)
	if err != nil {
		return phone.Call{}, err
	}
	call := phone.Call{
		Server: addr, To: to, From: s.From, Domain: known.Domain, Username: s.As, Password: s.Password,
		Digits: presses, HangUp: s.HangUp,
	}
	if call.Password == "" {
		call.Password = known.Extensions[s.As]
	}
	if call.From == "" {
		call.From = s.As
	}
	if s.TCP {
		call.Network = "tcp"
	}
	if s.WAV != "" {
		file, err := os.ReadFile(s.WAV)
		if err != nil {
			return phone.Call{}, err
		}
		if call.Speak, err = phone.ReadWAV(file); err != nil {
			return phone.Call{}, fmt.Errorf("%s: %w", s.WAV, err)
		}
	}
	return call, nil
}

func printLadder(out io.Writer, r phone.Report) {
	fmt.Fprintln(out, "\nSIP")
	for _, m := range r.Ladder {
		arrow := "<--"
		if m.Sent {
			arrow = "-->"
		}
		fmt.Fprintf(out, "  %8.3fs  %s %s\n", m.At.Seconds(), arrow, m.Line)
	}
}

func printHeard(out io.Writer, r phone.Report) {
	if !r.Answered {
		return
	}
	sounds := phone.Sounds(r.Heard)
	fmt.Fprintf(out, "\nheard %.1fs of audio: speech %.1fs, tones %.1fs, silence %.1fs\n",
		float64(len(r.Heard))/8000, phone.Seconds(sounds, "speech"), phone.Seconds(sounds, "tone"), phone.Seconds(sounds, "silence"))
	fmt.Fprintln(out, "  ", phone.Describe(sounds))
	fmt.Fprintf(out, "   first audio after %.0f ms; %d packets, %d lost, jitter %.1f ms, codec %s\n",
		float64(r.FirstAudio.Microseconds())/1000, r.Stats.PacketsReceived, r.Stats.Lost, float64(r.Stats.Jitter.Microseconds())/1000, r.Stats.Codec)
}

// printEvents shows what the server says of the call, where the credentials let us ask it.
func printEvents(ctx context.Context, out io.Writer, known credentials, sipCallID string) {
	if known.URL == "" || sipCallID == "" {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	id, err := findCall(ctx, known, sipCallID)
	if err != nil {
		fmt.Fprintln(out, "\nevents: not to be had:", err)
		return
	}
	var list struct {
		Data []struct {
			Type       string          `json:"type"`
			Sequence   int             `json:"sequence"`
			OccurredAt time.Time       `json:"occurred_at"`
			Data       json.RawMessage `json:"data"`
		} `json:"data"`
	}
	if err := get(ctx, known, "/v1/calls/"+id+"/events", &list); err != nil {
		fmt.Fprintln(out, "\nevents: not to be had:", err)
		return
	}
	fmt.Fprintln(out, "\nevents of", id)
	for _, e := range list.Data {
		fmt.Fprintf(out, "  %3d %s  %-22s %s\n", e.Sequence, e.OccurredAt.Format("15:04:05.000"), e.Type, e.Data)
	}
}

// findCall waits a moment for the record of the call: events reach it within milliseconds of the call's end.
func findCall(ctx context.Context, known credentials, sipCallID string) (string, error) {
	for {
		var list struct {
			Data []struct {
				ID     string `json:"id"`
				Status string `json:"status"`
			} `json:"data"`
		}
		if err := get(ctx, known, "/v1/calls?sip_call_id="+url.QueryEscape(sipCallID), &list); err != nil {
			return "", err
		}
		if len(list.Data) > 0 && list.Data[0].Status != "in_progress" && list.Data[0].Status != "ringing" {
			return list.Data[0].ID, nil
		}
		select {
		case <-ctx.Done():
			return "", errors.New("the call has no final record yet")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, known credentials, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, known.URL+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+known.APIKey)
	client, err := known.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", path, res.Status)
	}
	return json.Unmarshal(body, into)
}
