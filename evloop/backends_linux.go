package evloop

var backends = []backend{
	{"epoll", newEpoll},
	{"poll", newPoll},
	{"select", newSelect},
}
