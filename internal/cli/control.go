package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ndferry/internal/control"
	"ndferry/internal/master"
)

// controlValue is a flag that holds the path of a control socket; empty is the default one.
type controlValue string

// Set takes the flag's text.
func (v *controlValue) Set(s string) error {
	if s == "" {
		return errors.New("want a path, or none")
	}
	*v = controlValue(s)
	return nil
}

// Type names the kind of value in help.
func (v *controlValue) Type() string { return "PATH" }

func (v *controlValue) String() string { return string(*v) }

// noControl is what says that there is to be no control socket.
const noControl = "none"

func addControlFlag(cmd *cobra.Command, v *controlValue) {
	cmd.Flags().Var(v, "control", "socket that tells how the server does (default below $XDG_RUNTIME_DIR, for root /run/ndferry/control.sock, "+
		"else ndferry-UID/control.sock among the temporary files)")
}

// path is where the socket is; own tells that the user said so.
func (v controlValue) path(a *app) (path string, own bool) {
	if v != "" {
		return string(v), true
	}
	return control.DefaultPath(a.lookupEnv), false
}

// openControl answers on the control socket. Without one that was asked for it fails; a default one that cannot be had is done without.
func (a *app) openControl(v controlValue, status func() any) (io.Closer, error) {
	if v == noControl {
		return io.NopCloser(nil), nil
	}
	path, own := v.path(a)
	s, err := control.Listen(path, map[string]func() any{"status": status})
	switch {
	case err == nil:
		return s, nil
	case own:
		return nil, fmt.Errorf("serve: --control %s: %w", path, err)
	case errors.Is(err, control.ErrInUse):
		a.log.Warn("serve: another server has the default control socket; 'ndferry status' is about that one, unless this one gets --control", "control", path)
	default:
		a.log.Warn("serve: no control socket; 'ndferry status' cannot ask this server", "control", path, "err", err)
	}
	return io.NopCloser(nil), nil
}

// serverStatus is the JSON of ndferry status.
type serverStatus struct {
	Software string   `json:"software"`
	Store    string   `json:"store"`
	Listen   []string `json:"listen"`
	master.Status
}

func statusOf(info serveInfo, s master.Status) serverStatus {
	s.PID = info.PID
	return serverStatus{Software: "ndferry " + Version, Store: info.Store, Listen: info.Listen, Status: s}
}

// age is how long ago something was, in whole seconds.
func age(now, then time.Time) time.Duration { return max(now.Sub(then), 0).Round(time.Second) }
