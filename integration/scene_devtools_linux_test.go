package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// browser is Chromium on a host, with one page, operated by the DevTools protocol
// over a pipe (https://chromedevtools.github.io/devtools-protocol/).
type browser struct {
	t       *testing.T
	session string

	mu         sync.Mutex
	commands   *os.File
	last       int
	answers    map[int]chan devtoolsMessage
	complaints []string // of the page: errors and warnings on its console
}

// devtoolsMessage is an answer, or something that happened.
type devtoolsMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

func (s *scene) newBrowser(h *netlab.Host) *browser {
	s.t.Helper()
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(chromium(s.t), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+filepath.Join(s.dir, "browser"), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	process, err := h.Start(cmd)
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	b := &browser{t: s.t, commands: ourOut, answers: make(map[int]chan devtoolsMessage)}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		b.read(ourIn)
	}()
	s.t.Cleanup(func() {
		ourOut.Close() // which ends it
		<-process.Done()
		<-reading
		ourIn.Close()
	})
	b.attach()
	return b
}

func (b *browser) attach() {
	b.t.Helper()
	var target struct{ TargetID, SessionID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
}

// read takes in what the browser says, until it ends.
func (b *browser) read(from *os.File) {
	messages := bufio.NewReader(from)
	for {
		text, err := messages.ReadBytes(0)
		if err != nil {
			return
		}
		var m devtoolsMessage
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			b.t.Errorf("the browser says %q: %v", text, err)
			return
		}
		b.mu.Lock()
		if answer := b.answers[m.ID]; answer != nil {
			delete(b.answers, m.ID)
			answer <- m
		}
		if complains(m) {
			b.complaints = append(b.complaints, string(m.Params))
		}
		b.mu.Unlock()
	}
}

// complains tells whether something happened that a developer would see in red or
// yellow.
func complains(m devtoolsMessage) bool {
	var what struct {
		Type  string
		Entry struct{ Level string }
	}
	json.Unmarshal(m.Params, &what) // of other messages it is empty
	return m.Method == "Runtime.exceptionThrown" ||
		m.Method == "Runtime.consoleAPICalled" && slices.Contains([]string{"error", "warning", "assert"}, what.Type) ||
		m.Method == "Log.entryAdded" && slices.Contains([]string{"error", "warning"}, what.Entry.Level)
}

// complaintsSoFar takes what the page complained about.
func (b *browser) complaintsSoFar() (complaints []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complaints, b.complaints = b.complaints, nil
	return complaints
}

// call has the browser do something.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	answer := make(chan devtoolsMessage, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	b.answers[id] = answer
	b.mu.Unlock()
	command := map[string]any{"id": id, "method": method}
	if params != nil {
		command["params"] = params
	}
	if b.session != "" {
		command["sessionId"] = b.session
	}
	text, err := json.Marshal(command)
	if err == nil {
		_, err = b.commands.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			b.t.Fatalf("%s: %s", text, m.Error)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatalf("%s is answered %s: %v", text, m.Result, err)
			}
		}
	case <-time.After(30 * time.Second):
		b.t.Fatalf("%s: no answer", text)
	}
}

// open goes to a page, and says whether there is one.
func (b *browser) open(url string) (ok bool) {
	b.t.Helper()
	var navigated struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": url}, &navigated)
	return navigated.ErrorText == ""
}

// eval is the value of an expression, awaited, on the page.
func (b *browser) eval(expression string) any {
	b.t.Helper()
	var evaluated struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &evaluated)
	if evaluated.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, evaluated.ExceptionDetails)
	}
	return evaluated.Result.Value
}

// await waits until an expression is true on the page.
func (b *browser) await(expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); b.eval("Boolean("+expression+")") != true; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s does not come true; the page says\n%v", expression, b.eval("document.body.innerText"))
		}
	}
}

// awaitText waits until an element shows a text.
func (b *browser) awaitText(selector, text string) {
	b.t.Helper()
	b.await(fmt.Sprintf("document.querySelector(%q)?.textContent.includes(%q)", selector, text))
}

// press presses a key.
func (b *browser) press(key string) {
	b.t.Helper()
	text := map[string]string{"Enter": "\r", "Escape": "\x1b", "Tab": "\t"}[key]
	code := int(text[0])
	down := map[string]any{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code}
	if key == "Enter" {
		down["text"] = text
	}
	b.call("Input.dispatchKeyEvent", down, nil)
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code}, nil)
}

// tabTo presses Tab until the element of a name has the focus.
func (b *browser) tabTo(label string) {
	b.t.Helper()
	var seen []string
	for range 60 {
		b.press("Tab")
		focused, _ := b.eval(`document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent`).(string)
		if focused == label {
			return
		}
		seen = append(seen, focused)
	}
	b.t.Fatalf("Tab does not lead to %q, but to %q", label, strings.Join(seen, ", "))
}

// resize gives the page another size, in CSS pixels.
func (b *browser) resize(width, height int) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// prefer chooses the colour scheme, light or dark.
func (b *browser) prefer(scheme string) {
	b.t.Helper()
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}
