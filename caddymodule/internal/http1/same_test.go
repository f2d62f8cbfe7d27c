package http1

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// handlers has what the servers do, by path. Most of the answers are not plain.
var handlers = map[string]http.HandlerFunc{
	"/length": func(w http.ResponseWriter, r *http.Request) {
		typed(w, 5)
		io.WriteString(w, "hello")
	},
	"/request": func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		text := fmt.Sprint(r.Method, r.URL, r.RequestURI, r.Proto, r.Header, r.Host, r.Close, r.ContentLength, r.TransferEncoding, r.Form, r.Trailer, r.TLS, string(body), err)
		typed(w, len(text))
		io.WriteString(w, text)
	},
	"/fields": func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header().Set("Date", "today")
		w.Header().Set("X", "y")
		w.Header()["lower"] = []string{"z"}
		typed(w, 0)
		w.WriteHeader(http.StatusNotFound)
		w.Header().Set("X", "too late")
	},
	"/undated": func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		typed(w, 0)
		w.WriteHeader(http.StatusOK)
	},
	"/mended": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X", " a\r\nb ")
		w.Header()["not valid"] = []string{"x"}
		typed(w, 0)
	},
	"/closing": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		typed(w, 0)
	},
	"/nothing": func(w http.ResponseWriter, r *http.Request) {},
	"/untyped": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") },
	"/sniffed": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6")
		io.WriteString(w, "<html>")
	},
	"/chunks": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello")
		http.NewResponseController(w).Flush()
		io.WriteString(w, "world")
	},
	"/trailer": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "hello")
		w.Header().Set("X-Sum", "1")
		w.Header().Set(http.TrailerPrefix+"X-More", "2")
	},
	"/late-trailer": func(w http.ResponseWriter, r *http.Request) {
		typed(w, 5)
		io.WriteString(w, "hello")
		w.Header().Set(http.TrailerPrefix+"X-More", "2")
	},
	"/hints": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		typed(w, 5)
		io.WriteString(w, "hello")
	},
	"/204":  func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
	"/304":  func(w http.ResponseWriter, r *http.Request) { typed(w, 7); w.WriteHeader(http.StatusNotModified) },
	"/299":  func(w http.ResponseWriter, r *http.Request) { typed(w, 0); w.WriteHeader(299) },
	"/more": func(w http.ResponseWriter, r *http.Request) { typed(w, 5); writeAll(w, "hello", "world") },
	"/less": func(w http.ResponseWriter, r *http.Request) { typed(w, 5); writeAll(w, "hel") },
	"/length-wrong": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "five")
		writeAll(w, "hello")
	},
	"/twice": func(w http.ResponseWriter, r *http.Request) {
		typed(w, 0)
		w.WriteHeader(http.StatusOK)
		w.WriteHeader(http.StatusTeapot)
	},
	"/abort": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	"/panic": func(w http.ResponseWriter, r *http.Request) { panic("no") },
	"/abort-later": func(w http.ResponseWriter, r *http.Request) {
		typed(w, 10)
		writeAll(w, "hello")
		panic(http.ErrAbortHandler)
	},
	"/abort-flushed": func(w http.ResponseWriter, r *http.Request) {
		typed(w, 10)
		writeAll(w, "hello")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	},
	"/abort-chunks": func(w http.ResponseWriter, r *http.Request) {
		writeAll(w, "hello")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	},
	"/flush": func(w http.ResponseWriter, r *http.Request) {
		typed(w, 10)
		w.(http.Flusher).Flush()
		writeAll(w, "hello", "world")
	},
	"/long": func(w http.ResponseWriter, r *http.Request) {
		typed(w, 100<<10)
		writeAll(w, strings.Repeat("a", 3000), strings.Repeat("b", 7000), strings.Repeat("c", 100<<10-10000))
	},
	"/file":        func(w http.ResponseWriter, r *http.Request) { typed(w, len(content)); readFrom(w) },
	"/file-less":   func(w http.ResponseWriter, r *http.Request) { typed(w, len(content)+1); readFrom(w) },
	"/file-chunks": func(w http.ResponseWriter, r *http.Request) { readFrom(w) },
	"/deadlines": func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		control := http.NewResponseController(w)
		text := fmt.Sprint(control.SetReadDeadline(time.Now().Add(testsite.Patience)), control.SetWriteDeadline(time.Now().Add(testsite.Patience)), control.EnableFullDuplex())
		typed(w, len(text))
		writeAll(w, text)
	},
	"/hijack": func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: hijacked\r\n\r\nhello")
	},
}

func typed(w http.ResponseWriter, length int) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", fmt.Sprint(length))
}

func writeAll(w io.Writer, texts ...string) {
	for _, text := range texts {
		if _, err := io.WriteString(w, text); err != nil {
			fmt.Fprint(w, err) // also fails, because it exceeds the declared length
		}
	}
}

// content is the content of a file that io.Copy sends.
var content = bytes.Repeat([]byte("0123456789abcdef"), 20<<10)

var contentFile string

func readFrom(w http.ResponseWriter) {
	file, err := os.Open(contentFile)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if _, err := io.Copy(w, file); err != nil {
		panic(err)
	}
}

// requests has the requests. Each begins with a placeholder for the path.
var requests = map[string]string{
	"GET":           "GET %s HTTP/1.1\r\n",
	"HEAD":          "HEAD %s HTTP/1.1\r\n",
	"closing":       "GET %s HTTP/1.1\r\nConnection: close\r\n",
	"keep-alive":    "GET %s HTTP/1.1\r\nConnection: Keep-Alive\r\nx-a: 1\r\nX-A:  2 \r\n",
	"query":         "GET %s?a=%%20b&c HTTP/1.1\r\n",
	"POST":          "POST %s HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
	"empty POST":    "POST %s HTTP/1.1\r\nContent-Length: 0\r\n",
	"chunks":        "POST %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"HTTP/1.0":      "GET %s HTTP/1.0\r\n",
	"pieces":        "GET %s HTTP/1.1\r\nX: <pause>y\r\n",
	"absolute":      "GET http://localhost%s HTTP/1.1\r\n",
	"two hosts":     "GET %s HTTP/1.1\r\nHost: other\r\n",
	"folded":        "GET %s HTTP/1.1\r\nX: y\r\n z\r\n",
	"control":       "GET %s HTTP/1.1\r\nX: a\x01b\r\n",
	"bare LF":       "GET %s HTTP/1.1\r\nX: y\nZ: z\r\n",
	"pragma":        "GET %s HTTP/1.1\r\nPragma: no-cache\r\n",
	"expect":        "GET %s HTTP/1.1\r\nExpect: something\r\n",
	"upgrade":       "GET %s HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n",
	"length of GET": "GET %s HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
	"long":          "GET %s HTTP/1.1\r\nX: " + strings.Repeat("x", 10000) + "\r\n",
	"no HTTP":       "%s",
}

// plainRequests names the requests that this package serves, in addition to those whose pieces
// arrive together.
var plainRequests = []string{"GET", "HEAD", "closing", "keep-alive", "query"}

// TestSame checks that the answers have the same bytes as net/http's, whatever the request, and
// whatever came before on the connection.
func TestSame(t *testing.T) {
	contentFile = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(contentFile, content, 0o600); err != nil {
		t.Fatal(err)
	}
	var writer atomic.Value // the type of the last response writer
	mux := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle, ok := handlers[r.URL.Path]
		if !ok {
			handle = http.NotFound
		}
		writer.Store(fmt.Sprintf("%T", w))
		handle(w, r)
	})
	theirs, ours := testsite.FreeAddress(t), testsite.FreeAddress(t)
	silent := log.New(io.Discard, "", 0)
	start(t, theirs, &http.Server{Handler: mux, ErrorLog: silent})
	startPlain(t, ours, &http.Server{Handler: mux, ErrorLog: silent})
	const plain = "GET /length HTTP/1.1\r\n"
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			writer.Store("")
			ask(t, ours, fmt.Sprintf(request, "/length"))
			if here := writer.Load() == "*http1.response"; here != slices.Contains(plainRequests, name) && name != "pieces" {
				t.Errorf("the request went to a %v", writer.Load())
			}
			for path := range handlers {
				request := fmt.Sprintf(request, path)
				for _, asked := range [][]string{{request, plain}, {plain, plain, request, request, plain}} {
					want, got := ask(t, theirs, asked...), ask(t, ours, asked...)
					if got != want {
						t.Errorf("%q: got\n%.2000q\nwant that of net/http\n%.2000q", asked, got, want)
					}
				}
			}
		})
	}
}
