//go:build darwin || freebsd

package evloop

var backends = []backend{
	{"kqueue", newKqueue},
	{"poll", newPoll},
	{"select", newSelect},
}
