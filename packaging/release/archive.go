package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// file is a file or a directory of an archive.
type file struct {
	name string // a directory's ends with a slash
	from string // of a file: where its bytes are
	text string // or its bytes
	mode int64
	user int

	// capabilities that the program has when anybody runs it
	capabilities []uint
}

func (r release) makeArchives(architectures []string) error {
	for _, architecture := range architectures {
		if err := r.makeArchive(architecture); err != nil {
			return fmt.Errorf("for %s: %w", architecture, err)
		}
	}
	return nil
}

// makeArchive makes an archive with Caddy and what is to be installed with it by hand.
func (r release) makeArchive(architecture string) error {
	files := []file{
		{name: "caddy", from: r.binary(architecture), mode: 0o755},
		{name: "LICENSE", from: "LICENSE", mode: 0o644},
		{name: "README.md", from: "README.md", mode: 0o644},
		{name: "CHANGELOG.md", from: "CHANGELOG.md", mode: 0o644},
		{name: "Caddyfile.example", from: "Caddyfile.example", mode: 0o644},
	}
	for _, pattern := range []string{"packaging/*/*.*", "packaging/*/*.d/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range paths {
			directory := filepath.Base(filepath.Dir(path))
			if info, err := os.Stat(path); err != nil || info.IsDir() || directory == "release" || directory == "deb" {
				continue
			}
			files = append(files, file{name: path, from: path, mode: 0o644})
		}
	}
	f, err := os.Create(filepath.Join(r.dist, fmt.Sprintf("caddy-vnic_%s_linux_%s.tar.gz", r.version, architecture)))
	if err != nil {
		return err
	}
	defer f.Close()
	w := gzip.NewWriter(f)
	if err := r.writeTar(w, files); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func (r release) writeTar(to io.Writer, files []file) error {
	w := tar.NewWriter(to)
	for _, f := range files {
		if err := r.writeFile(w, f); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return w.Close()
}

func (r release) writeFile(w *tar.Writer, f file) error {
	var content io.Reader = bytes.NewReader([]byte(f.text))
	size := int64(len(f.text))
	if f.from != "" {
		opened, err := os.Open(f.from)
		if err != nil {
			return err
		}
		defer opened.Close()
		info, err := opened.Stat()
		if err != nil {
			return err
		}
		content, size = opened, info.Size()
	}
	header := &tar.Header{Name: f.name, Mode: f.mode, Size: size, Uid: f.user, Gid: f.user, ModTime: r.date, Format: tar.FormatPAX}
	if len(f.capabilities) > 0 {
		header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": fileCapabilities(f.capabilities)}
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(w, content)
	return err
}

// fileCapabilities returns the attribute that makes capabilities permitted and effective
// (struct vfs_cap_data, version 2, of include/uapi/linux/capability.h).
func fileCapabilities(capabilities []uint) string {
	const version2, effective = 0x02000000, 1
	var permitted uint64
	for _, c := range capabilities {
		permitted |= 1 << c
	}
	attribute := binary.LittleEndian.AppendUint32(nil, version2|effective)
	for _, set := range []uint32{uint32(permitted), 0, uint32(permitted >> 32), 0} { // permitted and inheritable, by halves
		attribute = binary.LittleEndian.AppendUint32(attribute, set)
	}
	return string(attribute)
}
