package process

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"
)

// HashKeyName is the name of the data plane's hash secret in Caddy's storage. Servers that
// share a storage share the secret, and so make the same decisions.
const HashKeyName = "vnic/hash_key"

// hashKeyPatience is the time that a start waits for the storage.
const hashKeyPatience = 10 * time.Second

// Storage is the part of a certmagic.Storage that keeps the secret.
type Storage interface {
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
	Store(ctx context.Context, key string, value []byte) error
	Load(ctx context.Context, key string) ([]byte, error)
}

// HashSecret is the secret of the data plane's hashes. The first start makes the secret,
// and the storage of the newest configuration keeps it.
type HashSecret struct{ storage atomic.Pointer[Storage] }

// KeepIn sets the storage that keeps the secret.
func (s *HashSecret) KeepIn(storage Storage) { s.storage.Store(&storage) }

// get returns the secret of the storage. If there is none, get makes it.
func (s *HashSecret) get() (secret [16]byte, err error) {
	storage := *s.storage.Load()
	ctx, cancel := context.WithTimeout(context.Background(), hashKeyPatience)
	defer cancel()
	text, err := storage.Load(ctx, HashKeyName)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeHashKey(ctx, storage)
	}
	if err != nil {
		return secret, fmt.Errorf("%s in Caddy's storage: %w", HashKeyName, err)
	}
	text = bytes.TrimSpace(text)
	if len(text) != hex.EncodedLen(len(secret)) {
		err = hex.ErrLength
	} else {
		_, err = hex.Decode(secret[:], text)
	}
	if err != nil {
		return secret, fmt.Errorf("%s in Caddy's storage is not 32 hexadecimal digits (%w): delete it, and a new one is made", HashKeyName, err)
	}
	return secret, nil
}

// makeHashKey makes the secret, unless another server that shares the storage has just
// done so.
func makeHashKey(ctx context.Context, storage Storage) (text []byte, err error) {
	if err := storage.Lock(ctx, HashKeyName); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storage.Unlock(context.WithoutCancel(ctx), HashKeyName)) }()
	if text, err = storage.Load(ctx, HashKeyName); !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // it never fails
	text = []byte(hex.EncodeToString(secret[:]))
	return text, storage.Store(ctx, HashKeyName, text)
}
