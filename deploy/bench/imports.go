package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"
)

// importing measures bringing numbers in by the REST API: a tenth of the rows first and then all of them, so that the
// memory of one can be compared with that of the other.
func importing(ctx context.Context, s *server, rows int, out sheet) error {
	const mark, most, largest = 20_000, 1.5, 1_000_000 // rows that one import may have
	rows = min(rows, largest)
	tenth, err := s.importNumbers(ctx, "+8615", rows/10)
	if err != nil {
		return fmt.Errorf("import of a tenth: %w", err)
	}
	whole, err := s.importNumbers(ctx, "+8614", rows)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	perSecond := float64(rows) / whole.job.Seconds()
	out.set("import of as many numbers: rows a second of its job", "≥ 20,000", thousands(int(perSecond)), perSecond >= mark)
	out.tell("import, with upload and waiting: rows a second, in all", fmt.Sprintf("%s (%.1f s)", thousands(int(float64(rows)/whole.wall.Seconds())), whole.wall.Seconds()))
	out.tell("import, rows a second of the server's processor time", thousands(int(float64(rows)/whole.spent.Seconds())))
	growth := float64(whole.peak) / float64(tenth.peak)
	out.set("import, peak memory of the server; that of a tenth of the rows", "at most 1.5 of a tenth's",
		fmt.Sprintf("%.0f MB; %.0f MB", float64(whole.peak)/1e6, float64(tenth.peak)/1e6), growth <= most)
	return nil
}

// imported is what an import took.
type imported struct {
	job  time.Duration // from the job's start to its end, by the server
	wall time.Duration // from the first octet of the upload until the job's end is seen
	// spent is the server's processor time for all of it.
	spent time.Duration
	peak  int64 // the most memory of the server meanwhile, in octets
}

// importNumbers uploads n numbers that begin with a prefix, commits them, and verifies that they are there.
func (s *server) importNumbers(ctx context.Context, prefix string, n int) (imported, error) {
	had, err := s.countNumbers(ctx)
	if err != nil {
		return imported{}, err
	}
	if err := s.resetPeak(); err != nil {
		return imported{}, err
	}
	before, began := s.usage(), time.Now()
	var imp struct{ ID string }
	if err := s.uploadTable(ctx, prefix, n, &imp); err != nil {
		return imported{}, err
	}
	job, err := s.commit(ctx, imp.ID)
	if err != nil {
		return imported{}, err
	}
	took := imported{job: job, wall: time.Since(began), spent: s.usage().cpu - before.cpu}
	if took.peak, err = s.peak(); err != nil {
		return took, err
	}
	return took, s.verifyImport(ctx, imp.ID, prefix, n, had)
}

// numberOf and externalOf are what row i of a table says.
func numberOf(prefix string, i int) string   { return fmt.Sprintf("%s%09d", prefix, i) }
func externalOf(prefix string, i int) string { return fmt.Sprintf("ext-%s-%d", prefix[1:], i) }

// uploadTable sends a csv that is made while it is sent.
func (s *server) uploadTable(ctx context.Context, prefix string, n int, into any) error {
	body, pipe := io.Pipe()
	defer func() { _ = body.Close() }() // always nil; whoever still writes is freed
	form := multipart.NewWriter(pipe)
	go func() { // ends with the body
		err := writeTable(form, prefix, n)
		_ = pipe.CloseWithError(errors.Join(err, form.Close())) // never fails
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.http+"/v1/imports", body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", form.FormDataContentType())
	res, err := patient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("upload: %s: %s", res.Status, text)
	}
	return json.Unmarshal(text, into)
}

// patient is a client for uploads, which take longer than anything else.
var patient = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{}}

func writeTable(form *multipart.Writer, prefix string, n int) error {
	if err := form.WriteField("resource", "numbers"); err != nil {
		return err
	}
	part, err := form.CreateFormFile("file", "numbers.csv")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(part, 64<<10)
	fmt.Fprintln(w, "number,external_id") // what fails here fails in Flush
	for i := range n {
		fmt.Fprintf(w, "%s,%s\n", numberOf(prefix, i), externalOf(prefix, i))
	}
	return w.Flush()
}

// commit has an import's rows written, and gives how long its job took.
func (s *server) commit(ctx context.Context, id string) (time.Duration, error) {
	var job struct {
		ID, Status, Failure string
		StartedAt           time.Time `json:"started_at"`
		FinishedAt          time.Time `json:"finished_at"`
	}
	if err := s.do(ctx, http.MethodPost, "/v1/imports/"+id+"/commit", "", nil, &job); err != nil {
		return 0, err
	}
	for {
		switch job.Status {
		case "succeeded":
			return job.FinishedAt.Sub(job.StartedAt), nil
		case "failed", "canceled":
			return 0, fmt.Errorf("the job %s: %s", job.Status, job.Failure)
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
		if err := s.do(ctx, http.MethodGet, "/v1/jobs/"+job.ID, "", nil, &job); err != nil {
			return 0, err
		}
	}
}

// verifyImport compares what the import says, and what the list of numbers has, with what was sent.
func (s *server) verifyImport(ctx context.Context, id, prefix string, n, before int) error {
	var imp struct {
		Rows   int
		Counts struct{ Created, Updated, Skipped, Errors int }
	}
	if err := s.do(ctx, http.MethodGet, "/v1/imports/"+id, "", nil, &imp); err != nil {
		return err
	}
	if imp.Rows != n || imp.Counts.Created != n || imp.Counts.Updated+imp.Counts.Skipped+imp.Counts.Errors > 0 {
		return fmt.Errorf("of %d rows the import has %+v", n, imp)
	}
	after, err := s.countNumbers(ctx)
	if err != nil {
		return err
	}
	if after != before+n {
		return fmt.Errorf("there are %d numbers; there were %d, and %d were imported", after, before, n)
	}
	for k := range min(100, n) {
		i := rand.IntN(n)
		switch k { // the ends, and some between
		case 0:
			i = 0
		case 1:
			i = n - 1
		}
		var found struct {
			Data []struct {
				ExternalID string `json:"external_id"`
			}
		}
		if err := s.do(ctx, http.MethodGet, "/v1/numbers?number="+url.QueryEscape(numberOf(prefix, i)), "", nil, &found); err != nil {
			return err
		}
		if len(found.Data) != 1 || found.Data[0].ExternalID != externalOf(prefix, i) {
			return fmt.Errorf("row %d of the table, %s, is there as %+v", i, numberOf(prefix, i), found.Data)
		}
	}
	return nil
}

func (s *server) countNumbers(ctx context.Context) (int, error) {
	var page struct{ Total int }
	err := s.do(ctx, http.MethodGet, "/v1/numbers?limit=1&count=true", "", nil, &page)
	return page.Total, err
}
