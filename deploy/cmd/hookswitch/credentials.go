package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// credentials are what the first start made: the file DIR/credentials, for its owner alone. They go to the terminal
// once, and never to a log.
type credentials struct {
	URL        string            `yaml:"url"` // of the REST API
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
