/* Echo server on libuv. uvecho PORT */
#include <stdlib.h>
#include <uv.h>

typedef struct { uv_write_t req; uv_buf_t buf; } reply;

static void closed(uv_handle_t *h) { free(h); }
static void alloc(uv_handle_t *h, size_t n, uv_buf_t *b) { (void)h; *b = uv_buf_init(malloc(n), n); }
static void written(uv_write_t *req, int status) {
	(void)status;
	free(((reply *)req)->buf.base);
	free(req);
}
static void got(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
	if (n <= 0) {
		free(b->base);
		if (n < 0)
			uv_close((uv_handle_t *)s, closed);
		return;
	}
	uv_buf_t out = uv_buf_init(b->base, n);
	int done = uv_try_write(s, &out, 1);
	if (done == n) {
		free(b->base);
		return;
	}
	reply *r = malloc(sizeof *r);
	r->buf = *b;
	if (done > 0) {
		out.base += done;
		out.len -= done;
	}
	uv_write(&r->req, s, &out, 1, written);
}
static void connected(uv_stream_t *ln, int status) {
	if (status < 0)
		return;
	uv_tcp_t *c = malloc(sizeof *c);
	uv_tcp_init(ln->loop, c);
	if (uv_accept(ln, (uv_stream_t *)c)) {
		uv_close((uv_handle_t *)c, closed);
		return;
	}
	uv_tcp_nodelay(c, 1);
	uv_read_start((uv_stream_t *)c, alloc, got);
}
int main(int argc, char **argv) {
	uv_tcp_t ln;
	struct sockaddr_in a;
	uv_tcp_init(uv_default_loop(), &ln);
	uv_ip4_addr("127.0.0.1", atoi(argv[argc - 1]), &a);
	if (uv_tcp_bind(&ln, (struct sockaddr *)&a, 0) || uv_listen((uv_stream_t *)&ln, 4096, connected))
		return 1;
	return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
