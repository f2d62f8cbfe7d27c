package elector

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// follow reads a FIFO until the test ends. What it hears comes by the channel; "" stands for the end
// of the writer.
func follow(t *testing.T, path string) (heard chan string) {
	heard = make(chan string, 4096)
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		Follow(path, func(line string) { heard <- line }, func() { heard <- "" }, stop)
	})
	t.Cleanup(func() {
		close(stop)
		reader.Wait()
	})
	return heard
}

// openWriter opens a FIFO as keepalived does, when it is there.
func openWriter(t *testing.T, path string) *os.File {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		w, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			return w
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func wantHeard(t *testing.T, heard chan string, want ...string) {
	t.Helper()
	for _, line := range want {
		select {
		case got := <-heard:
			if got != line {
				t.Fatalf("heard %q, want %q", got, line)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q was not heard", line)
		}
	}
}

func write(t *testing.T, w *os.File, text string) {
	t.Helper()
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// A writer that comes, ends, and comes again is heard, also one that replaces the FIFO.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "vrrp")
	heard := follow(t, path)
	for range 3 {
		w := openWriter(t, path)
		write(t, w, "one\ntwo\nthr")
		wantHeard(t, heard, "one", "two")
		write(t, w, "ee\n")
		wantHeard(t, heard, "three")
		_ = w.Close()
		wantHeard(t, heard, "")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// No line is lost when a writer ends and another comes at once.
func TestNoLineIsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vrrp")
	heard := follow(t, path)
	for i := range 500 {
		w := openWriter(t, path)
		line := fmt.Sprint("line ", i)
		write(t, w, line+"\n")
		_ = w.Close()
		for got := ""; got != line; { // the end of the writer before may not have been seen
			select {
			case got = <-heard:
			case <-time.After(time.Minute):
				t.Fatalf("%s was lost", line)
			}
		}
	}
}

// Lines that come while nobody reads wait for the next reader, as when one process takes over from
// another, because the writer keeps the FIFO open.
func TestLinesWaitForASuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vrrp")
	if err := MakeFIFO(path); err != nil {
		t.Fatal(err)
	}
	w := openWriter(t, path)
	defer w.Close()
	for i := range 3 {
		stop, ended := make(chan struct{}), make(chan struct{})
		heard := make(chan string, 16)
		write(t, w, fmt.Sprintln("line", i))
		go func() {
			defer close(ended)
			Follow(path, func(line string) { heard <- line }, func() { heard <- "" }, stop)
		}()
		wantHeard(t, heard, fmt.Sprint("line ", i))
		close(stop)
		<-ended
		if len(heard) > 0 {
			t.Errorf("heard %q too", <-heard)
		}
	}
}

func TestMakeFIFO(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run", "vrrp")
	for range 2 {
		if err := MakeFIFO(path); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeNamedPipe|0o600 {
		t.Errorf("the fifo is %v, %v: others could say which machine has the address", info.Mode(), err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{file, dir, filepath.Join(file, "vrrp")} {
		if err := MakeFIFO(wrong); err == nil {
			t.Errorf("%s was taken for a fifo", wrong)
		}
	}
}

func TestTrack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "lan")
	for fit, want := range map[bool]string{true: "0\n", false: "1\n"} {
		if err := Track(path, fit); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); string(got) != want {
			t.Errorf("fit %v: %q, %v", fit, got, err)
		}
		written := time.Unix(1, 0)
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
		if err := Track(path, fit); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(written) {
			t.Errorf("fit %v: told again, the file is written again (%v)", fit, err)
		}
	}
}
