// Package config reads the settings of a process once, for main: flags, then HOOKSWITCH_… in the environment, then
// a flat YAML file whose keys are the flags' names. A setting is a field of a plain struct; what it is called, what
// it defaults to and what it means stand in its tags. Libraries get values and never look anything up.
package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Load fills the struct that settings points to. Its fields, embedded structs included, are strings, ints, bools,
// durations and lists of strings with the tags
//
//	flag     the name: --name, HOOKSWITCH_NAME, name:
//	default  the value when nothing sets it
//	help     one line for --help
//	secret   "true": Print hides the value
//
// A list is given by repeating the flag, by commas in the environment, by a YAML list. An unknown flag, an unknown
// key of the file and a value of the wrong kind are errors. It returns what follows the flags. flag.ErrHelp means
// that the help was asked for and printed to out.
func Load(settings any, args []string, environ []string, out io.Writer) (rest []string, err error) {
	fields := fieldsOf(reflect.ValueOf(settings).Elem())
	given := map[string]bool{}
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	file := set.String("config", lookup(environ, "HOOKSWITCH_CONFIG"), "")
	for _, f := range fields {
		if err := f.set(f.standard, false); err != nil {
			return nil, fmt.Errorf("default of --%s: %w", f.name, err)
		}
		add := func(text string) error {
			again := given[f.name]
			given[f.name] = true
			return f.set(text, again)
		}
		if f.value.Kind() == reflect.Bool {
			set.BoolFunc(f.name, "", add)
			continue
		}
		set.Func(f.name, "", add)
	}
	rest, err = parse(set, args)
	if errors.Is(err, flag.ErrHelp) {
		help(out, fields)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		name := "HOOKSWITCH_" + strings.ToUpper(strings.ReplaceAll(f.name, "-", "_"))
		if text := lookup(environ, name); text != "" && !given[f.name] {
			given[f.name] = true
			if err := f.set(text, false); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if *file != "" {
		return rest, readFile(*file, fields, given)
	}
	return rest, nil
}

// parse takes flags before and behind other arguments, as people type them.
func parse(set *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := set.Parse(args); err != nil {
			return nil, err
		}
		args = set.Args()
		if len(args) == 0 {
			return rest, nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

func readFile(path string, fields []field, given map[string]bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for key, value := range values {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			return fmt.Errorf("%s: unknown key %q", path, key)
		}
		if given[key] {
			continue
		}
		items, isList := value.([]any)
		if !isList {
			items = []any{value}
		}
		for n, item := range items {
			if err := fields[i].set(fmt.Sprint(item), n > 0); err != nil {
				return fmt.Errorf("%s: %s: %w", path, key, err)
			}
		}
	}
	return nil
}

// field is one setting.
type field struct {
	name, standard, help string
	secret               bool
	value                reflect.Value
}

func fieldsOf(v reflect.Value) []field {
	var out []field
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if t.Anonymous {
			out = append(out, fieldsOf(v.Field(i))...)
			continue
		}
		out = append(out, field{t.Tag.Get("flag"), t.Tag.Get("default"), t.Tag.Get("help"), t.Tag.Get("secret") == "true", v.Field(i)})
	}
	return out
}

// set reads text into the setting; more appends to a list.
func (f field) set(text string, more bool) error {
	switch f.value.Interface().(type) {
	case string:
		f.value.SetString(text)
	case bool:
		yes, err := strconv.ParseBool(orElse(text, "false"))
		if err != nil {
			return fmt.Errorf("must be true or false, is %q", text)
		}
		f.value.SetBool(yes)
	case int:
		n, err := strconv.Atoi(orElse(text, "0"))
		if err != nil {
			return fmt.Errorf("must be a whole number, is %q", text)
		}
		f.value.SetInt(int64(n))
	case time.Duration:
		d, err := time.ParseDuration(orElse(text, "0s"))
		if err != nil {
			return fmt.Errorf("must be a duration such as 30s, is %q", text)
		}
		f.value.SetInt(int64(d))
	case []string:
		if !more {
			f.value.Set(reflect.Zero(f.value.Type()))
		}
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				f.value.Set(reflect.Append(f.value, reflect.ValueOf(part)))
			}
		}
	default:
		panic("config: no rule for " + f.value.Type().String())
	}
	return nil
}

func orElse(text, standard string) string {
	if text == "" {
		return standard
	}
	return text
}

func lookup(environ []string, name string) string {
	for _, line := range environ {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

func help(out io.Writer, fields []field) {
	for _, f := range fields {
		text := f.help
		if f.standard != "" {
			text += " (" + f.standard + ")"
		}
		fmt.Fprintf(out, "  --%-18s %s\n", f.name, text)
	}
	fmt.Fprintf(out, "  --%-18s %s\n", "config", "a YAML file whose keys are these names")
}

// Print writes the settings as a YAML file that Load reads, secrets hidden.
func Print(settings any, out io.Writer) error {
	doc := yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fieldsOf(reflect.ValueOf(settings).Elem()) {
		var key, value yaml.Node
		key.SetString(f.name)
		shown := f.value.Interface()
		if d, ok := shown.(time.Duration); ok {
			shown = d.String()
		}
		if f.secret && !f.value.IsZero() {
			shown = "(hidden)"
		}
		if err := value.Encode(shown); err != nil {
			return err
		}
		doc.Content = append(doc.Content, &key, &value)
	}
	text, err := yaml.Marshal(&doc)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
