package main

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/flyteorg/flyte/flytestdlib/promutils"
	"github.com/flyteorg/flyte/flytestdlib/storage"
)

// files keeps Propeller's blobs as plain files under file:///..., so that an output prefix is a
// path an agent can write to. flytestdlib's own local store cannot: its references have the
// container where a file URL has its host.
type files struct{ root string }

func newDataStore(dir string) (*storage.DataStore, error) {
	root, err := filepath.Abs(filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	return storage.NewCompositeDataStore(storage.NewURLPathConstructor(),
		storage.NewDefaultProtobufStore(files{root}, promutils.NewScope("data"))), nil
}

func (f files) GetBaseContainerFQN(context.Context) storage.DataReference {
	return storage.DataReference("file://" + f.root)
}

func (f files) Head(_ context.Context, reference storage.DataReference) (storage.Metadata, error) {
	path, err := f.path(reference)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return blob{}, nil
	} else if err != nil {
		return nil, err
	}
	return blob{exists: true, size: info.Size()}, nil
}

func (f files) ReadRaw(_ context.Context, reference storage.DataReference) (io.ReadCloser, error) {
	path, err := f.path(reference)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (f files) WriteRaw(_ context.Context, reference storage.DataReference, _ int64, _ storage.Options, raw io.Reader) error {
	path, err := f.path(reference)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	content, err := io.ReadAll(raw)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

func (f files) path(reference storage.DataReference) (string, error) {
	u, err := url.Parse(string(reference))
	if err != nil {
		return "", err
	}
	return u.Path, nil
}

var errNotOffered = errors.New("this store reads and writes, no more")

func (f files) CreateSignedURL(context.Context, storage.DataReference, storage.SignedURLProperties) (storage.SignedURLResponse, error) {
	return storage.SignedURLResponse{}, errNotOffered
}

func (f files) List(context.Context, storage.DataReference, int, storage.Cursor) ([]storage.DataReference, storage.Cursor, error) {
	return nil, storage.NewCursorAtEnd(), errNotOffered
}

func (f files) CopyRaw(context.Context, storage.DataReference, storage.DataReference, storage.Options) error {
	return errNotOffered
}

func (f files) Delete(context.Context, storage.DataReference) error { return errNotOffered }

type blob struct {
	exists bool
	size   int64
}

func (b blob) Exists() bool     { return b.exists }
func (b blob) Size() int64      { return b.size }
func (blob) Etag() string       { return "" }
func (blob) ContentMD5() string { return "" }
