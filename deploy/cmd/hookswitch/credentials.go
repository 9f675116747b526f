package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
)

// credentials are what the first start made: the file DIR/credentials, for its owner alone. They go to the terminal
// once, and never to a log.
type credentials struct {
	URL        string            `yaml:"url"`          // of the REST API
	CA         string            `yaml:"ca,omitempty"` // file of the authority that URL's certificate is of, when it is our own
	APIKey     string            `yaml:"api_key"`
	SIP        string            `yaml:"sip"`    // host:port
	Domain     string            `yaml:"domain"` // the account's SIP domain and digest realm
	Extensions map[string]string `yaml:"extensions"`
}

func credentialsPath(dir string) string { return filepath.Join(dir, "credentials") }

func writeCredentials(dir string, c credentials) error {
	text, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(credentialsPath(dir), text, 0o600)
}

// readCredentials returns false where nothing has been started on DIR yet.
func readCredentials(dir string) (c credentials, found bool, err error) {
	text, err := os.ReadFile(credentialsPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return c, false, fmt.Errorf("%s: %w", credentialsPath(dir), err)
	}
	return c, true, nil
}

// client asks the REST API, and trusts the authority of its certificate.
func (c credentials) client() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CA != "" {
		roots, err := readRoots(c.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Timeout: 5 * time.Second, Transport: transport}, nil
}

// readRoots are the system's certificate authorities and those of a PEM file.
func readRoots(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without any
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return roots, nil
}
