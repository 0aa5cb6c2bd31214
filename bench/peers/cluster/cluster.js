// An echo server on Node's cluster module: the master accepts and passes each
// connection to a worker, round robin. cluster.js PORT WORKERS (0: no workers)
const cluster = require('node:cluster');
const net = require('node:net');

const [port, workers] = process.argv.slice(2).map(Number);
cluster.schedulingPolicy = cluster.SCHED_RR;
if (cluster.isPrimary && workers > 0) {
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  net.createServer({ noDelay: true }, (c) => {
    c.on('data', (b) => c.write(b));
    c.on('error', () => c.destroy());
  }).listen({ port, host: '127.0.0.1', backlog: 4096 });
}
