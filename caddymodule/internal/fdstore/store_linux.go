package fdstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Store has the files that the service manager keeps for this process and the next one, and a note
// about them. The service manager knows each file by a number, because it keeps no file under two
// names. The index, which it keeps too, has the numbers by name, and the note.
//
// The index is written after new files are kept and before old ones are dropped, so that it is
// right whenever the process is killed.
type Store struct {
	manager *manager
	record  *succession.Record // of the index; nil: it is not kept
	kept    map[string]kept    // by name
	note    []byte
	last    int // the highest number that was in use
}

// index is the content of the index.
type index struct {
	Numbers map[string]int  `json:"numbers"`
	Note    json.RawMessage `json:"note"`
}

// kept is a file that the service manager keeps. This process has it open, too.
type kept struct {
	*os.File
	number int
}

const indexName = prefix + "index"

func numbered(number int) string { return prefix + strconv.Itoa(number) }

// Available tells whether the service manager keeps files. systemd says it since version 254. For an
// earlier one the administrator has to say it.
func Available() bool {
	most, err := strconv.Atoi(os.Getenv("FDSTORE"))
	said := err == nil && most > 0 || os.Getenv("CADDY_VNIC_STORE") == "1"
	return said && os.Getenv("NOTIFY_SOCKET") != "" && comparesFiles()
}

// comparesFiles tells whether the kernel lets this process find out which files are kept already. A
// sandbox may forbid it.
var comparesFiles = sync.OnceValue(func() bool {
	again, err := succession.Duplicate(os.Stderr, "")
	if err != nil {
		return false
	}
	defer func() { _ = again.Close() }()
	return succession.Same(os.Stderr, again)
})

// Open returns the store with what the process before has left in it. An error of incomplete says
// why that is not whole; then the store is empty.
func Open() (s *Store, incomplete, err error) {
	s = &Store{kept: make(map[string]kept)}
	if s.manager, err = dial(); err != nil {
		return nil, nil, err
	}
	files := passed()
	if len(files) == 0 {
		return s, nil, nil
	}
	if incomplete = s.take(files); incomplete != nil {
		err = errors.Join(s.Clear(), s.manager.drop(indexName))
	}
	for name := range files { // those that are not in the index
		err = errors.Join(err, s.manager.drop(name))
	}
	return s, incomplete, errors.Join(err, files.Close(), s.manager.barrier())
}

// take takes the files of the index.
func (s *Store) take(files succession.Files) error {
	file := files.Take(indexName)
	if file == nil {
		return errors.New("the service manager has files, but not their index")
	}
	content, err := s.openIndex(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	for name, number := range content.Numbers {
		s.last = max(s.last, number)
		if file := files.Take(numbered(number)); file != nil {
			s.kept[name] = kept{file, number}
		} else {
			err = fmt.Errorf("the service manager has not kept the file %s: is FileDescriptorStoreMax= too small", name)
		}
	}
	return err
}

func (s *Store) openIndex(file *os.File) (content index, err error) {
	record, text, err := succession.OpenRecord(file)
	if err == nil {
		err = json.Unmarshal(text, &content)
	}
	if err != nil {
		return content, fmt.Errorf("reading the index of the files: %w", err)
	}
	s.record, s.note = record, content.Note
	return content, nil
}

// Note returns the note about the files.
func (s *Store) Note() []byte { return s.note }

// Files returns the files by their names, which belong to the caller.
func (s *Store) Files() (files succession.Files, err error) {
	files = make(succession.Files)
	for name, f := range s.kept {
		file, failed := succession.Duplicate(f.File, name)
		if failed != nil {
			return nil, errors.Join(failed, files.Close())
		}
		files[name] = file
	}
	return files, nil
}

// Set makes the store have these files and no others, with a note about them. It takes the files.
func (s *Store) Set(files succession.Files, note []byte) error {
	next := make(map[string]kept)
	for name := range files {
		file := files.Take(name)
		if before, ok := s.find(name, file); ok {
			next[name] = before
			_ = file.Close()
			continue
		}
		s.last++
		if err := s.manager.keep(numbered(s.last), file); err != nil {
			return errors.Join(err, file.Close(), files.Close())
		}
		next[name] = kept{file, s.last}
	}
	return s.become(next, note)
}

// SetNote changes only the note.
func (s *Store) SetNote(note []byte) error {
	if bytes.Equal(note, s.note) {
		return nil
	}
	return s.become(s.kept, note)
}

// find returns the same open file among those that are kept, most likely under the same name.
func (s *Store) find(name string, file *os.File) (found kept, ok bool) {
	if k, ok := s.kept[name]; ok && succession.Same(k.File, file) {
		return k, true
	}
	for _, k := range s.kept {
		if succession.Same(k.File, file) {
			return k, true
		}
	}
	return found, false
}

// become writes the index of the files that are kept from now on, and drops the others.
func (s *Store) become(next map[string]kept, note []byte) error {
	before := s.kept
	s.kept, s.note = next, note
	if err := s.writeIndex(); err != nil {
		return err
	}
	var errs []error
	stays := make(map[int]bool)
	for _, k := range next {
		stays[k.number] = true
	}
	for _, k := range before {
		if !stays[k.number] {
			errs = append(errs, s.manager.drop(numbered(k.number)), k.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *Store) writeIndex() error {
	content := index{make(map[string]int), s.note}
	for name, k := range s.kept {
		content.Numbers[name] = k.number
	}
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	if s.record != nil {
		return s.record.Replace(text)
	}
	if s.record, err = succession.NewRecord(indexName); err != nil {
		return err
	}
	if err := s.record.Replace(text); err != nil {
		return err
	}
	return s.manager.keep(indexName, s.record.File)
}

// Remove drops files, and returns when nobody but this process's callers has them.
func (s *Store) Remove(names []string) error {
	next := maps.Clone(s.kept)
	for _, name := range names {
		delete(next, name)
	}
	return errors.Join(s.become(next, s.note), s.manager.barrier())
}

// Clear drops all files. It returns when the service manager has closed them.
func (s *Store) Clear() (err error) {
	if s.record == nil && len(s.kept) == 0 {
		return nil
	}
	for _, k := range s.kept {
		err = errors.Join(err, s.manager.drop(numbered(k.number)), k.Close())
	}
	s.kept = make(map[string]kept)
	if s.record != nil {
		err = errors.Join(err, s.manager.drop(indexName), s.record.Close())
		s.record = nil
	}
	return errors.Join(err, s.manager.barrier())
}

// Bequeath returns what [Inherit] needs, in the process that follows this one: the files as the service
// manager would pass them. This process must not change the store afterwards.
func (s *Store) Bequeath() (succession.Files, error) {
	if s.record == nil {
		return nil, nil
	}
	files := make(succession.Files)
	add := func(file *os.File, name string) (err error) {
		files[name], err = succession.Duplicate(file, name)
		return err
	}
	err := add(s.record.File, indexName)
	for _, k := range s.kept {
		err = errors.Join(err, add(k.File, numbered(k.number)))
	}
	return files, err
}

// Inherit returns the store of the process before, which has given its files.
func Inherit(files succession.Files) (s *Store, err error) {
	s = &Store{kept: make(map[string]kept)}
	if s.manager, err = dial(); err == nil && len(files) > 0 {
		err = s.take(files)
	}
	return s, err
}
