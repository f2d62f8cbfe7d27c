package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is whom Caddy runs as in a container. Not being root, it can change no settings of the
// host but those of networks.
const user = 65532

// needed are the capabilities of packaging/systemd/caddy.service.d/vnic.conf, by their numbers:
// NET_BIND_SERVICE, NET_ADMIN, NET_RAW, PERFMON and BPF.
var needed = []uint{10, 12, 13, 38, 39}

// makeImage makes an image of nothing but Caddy, for all architectures, as an archive of an OCI
// layout.
func (r release) makeImage(architectures []string) error {
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, architecture := range architectures {
		image, err := r.imageFor(architecture)
		if err != nil {
			return fmt.Errorf("for %s: %w", architecture, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	name := "ghcr.io/caddy-vnic/caddy-vnic:" + r.version
	named := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
		Add: index,
		Descriptor: v1.Descriptor{Annotations: map[string]string{
			"org.opencontainers.image.ref.name": name, // podman load
			"io.containerd.image.name":          name, // docker load
		}},
	})
	dir := filepath.Join(r.dist, "image")
	if _, err := layout.Write(dir, named); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(r.dist, fmt.Sprintf("caddy-vnic_%s_image.tar", r.version)))
	if err != nil {
		return err
	}
	defer f.Close()
	var files []file
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files = append(files, file{name: name, from: path, mode: 0o644})
		return err
	})
	if err != nil {
		return err
	}
	if err := r.writeTar(f, files); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return f.Close()
}

func (r release) imageFor(architecture string) (v1.Image, error) {
	account := fmt.Sprintf("caddy:x:%d:%d::/srv:/nonexistent\n", user, user)
	var files bytes.Buffer
	err := r.writeTar(&files, []file{
		{name: "config/", mode: 0o755, user: user},
		{name: "data/", mode: 0o755, user: user},
		{name: "etc/caddy/Caddyfile", from: "packaging/container/Caddyfile", mode: 0o644},
		{name: "etc/group", text: fmt.Sprintf("caddy:x:%d:\n", user), mode: 0o644},
		{name: "etc/passwd", text: account, mode: 0o644},
		{name: "srv/", mode: 0o755},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/bin/caddy", from: r.binary(architecture), mode: 0o755, capabilities: needed},
		{name: "usr/share/doc/caddy-vnic/copyright", from: "LICENSE", mode: 0o644},
	})
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: r.date}, CreatedBy: "make release"},
	})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", architecture, v1.Time{Time: r.date}
	config.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/caddy"},
		Cmd:        []string{"run", "--config", "/etc/caddy/Caddyfile"},
		Env:        []string{"PATH=/usr/bin", "XDG_CONFIG_HOME=/config", "XDG_DATA_HOME=/data"},
		User:       fmt.Sprint(user),
		WorkingDir: "/srv",
		Labels: map[string]string{
			"org.opencontainers.image.title":       "caddy-vnic",
			"org.opencontainers.image.description": "Caddy with isolated network segments behind one address",
			"org.opencontainers.image.source":      "https://github.com/caddy-vnic/caddy-vnic",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     r.version,
		},
	}
	return mutate.ConfigFile(image, config)
}
