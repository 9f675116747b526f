package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// partSize is the buffer of a Put of unknown size. The client's own choice would be 528 MiB; 10,000 parts of this
// still hold 156 GiB.
const partSize = 16 << 20

// s3 keeps blobs in a bucket.
type s3 struct {
	c      *minio.Core
	bucket string
	prefix string // empty, or ends in "/"
}

func openS3(ctx context.Context, location string) (*s3, error) {
	u, err := url.Parse(location)
	if err != nil {
		// The parser's error repeats the URL, and with it the secret.
		return nil, errors.New("blob store: not a URL; it must be like s3://KEY:SECRET@host:9000/bucket")
	}
	q := u.Query()
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	secret, _ := u.User.Password()
	if u.Host == "" || bucket == "" || secret == "" {
		return nil, fmt.Errorf("blob store %s: must be like s3://KEY:SECRET@host:9000/bucket", u.Redacted())
	}
	if prefix != "" {
		if err := CheckKey(prefix); err != nil {
			return nil, err
		}
		prefix += "/"
	}
	region := q.Get("region")
	if region == "" {
		region = "us-east-1"
	}
	tls := true
	if text := q.Get("tls"); text != "" {
		if tls, err = strconv.ParseBool(text); err != nil {
			return nil, fmt.Errorf("blob store %s: tls must be true or false", u.Redacted())
		}
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(u.User.Username(), secret, ""), Secure: tls, Region: region,
	})
	if err != nil {
		return nil, fmt.Errorf("blob store %s: %w", u.Redacted(), err)
	}
	s := &s3{c: core, bucket: bucket, prefix: prefix}
	switch ok, err := core.BucketExists(ctx, bucket); {
	case err != nil:
		return nil, fmt.Errorf("blob store %s: %w", u.Redacted(), err)
	case !ok:
		return nil, fmt.Errorf("blob store %s: there is no bucket %s; make it first", u.Redacted(), bucket)
	}
	return s, nil
}

func (s *s3) close() error { return nil }

func (s *s3) put(ctx context.Context, key string, body io.Reader, size int64) error {
	options := minio.PutObjectOptions{ContentType: "application/octet-stream"}
	if size < 0 {
		options.PartSize = partSize
	}
	// Through Client: Core's PutObject has no multipart.
	info, err := s.c.Client.PutObject(ctx, s.bucket, s.prefix+key, body, size, options)
	if err == nil && size >= 0 && info.Size != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("blob: put %s: %w", key, err)
	}
	return nil
}

func (s *s3) get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if length == 0 {
		_, err := s.stat(ctx, key)
		return io.NopCloser(bytes.NewReader(nil)), err
	}
	var options minio.GetObjectOptions
	var err error
	switch {
	case length > 0:
		err = options.SetRange(offset, offset+length-1)
	case offset > 0:
		err = options.SetRange(offset, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("blob: get %s: %w", key, err)
	}
	body, _, _, err := s.c.GetObject(ctx, s.bucket, s.prefix+key, options)
	if err == nil {
		return body, nil
	}
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	return nil, fmt.Errorf("blob: get %s: %w", key, gone(err))
}

// gone turns S3's word for a missing key into ours.
func gone(err error) error {
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		return ErrNotFound
	}
	return err
}

func (s *s3) stat(ctx context.Context, key string) (Info, error) {
	o, err := s.c.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, fmt.Errorf("blob: stat %s: %w", key, gone(err))
	}
	return Info{Size: o.Size, Modified: o.LastModified.UTC()}, nil
}

func (s *s3) remove(ctx context.Context, key string) error {
	err := s.c.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
	if err != nil && !errors.Is(gone(err), ErrNotFound) {
		return fmt.Errorf("blob: delete %s: %w", key, err)
	}
	return nil
}

func (s *s3) signedGet(ctx context.Context, key string, ttl time.Duration, d Download) (string, error) {
	q := url.Values{"response-content-type": {d.ContentType}, "response-content-disposition": {disposition(d.FileName)}}
	u, err := s.c.PresignedGetObject(ctx, s.bucket, s.prefix+key, ttl, q)
	if err != nil {
		return "", fmt.Errorf("blob: signed get %s: %w", key, err)
	}
	return u.String(), nil
}

func (s *s3) signedPut(ctx context.Context, key string, ttl time.Duration, size int64) (Grant, error) {
	// A signed Content-Length is the only bound on a presigned PUT.
	signed := http.Header{"Content-Length": {strconv.FormatInt(size, 10)}}
	u, err := s.c.PresignHeader(ctx, http.MethodPut, s.bucket, s.prefix+key, ttl, nil, signed)
	if err != nil {
		return Grant{}, fmt.Errorf("blob: signed put %s: %w", key, err)
	}
	return Grant{URL: u.String(), Headers: map[string]string{}}, nil
}

func (s *s3) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { notFound(w) })
}
