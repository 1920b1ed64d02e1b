// Runs one piece of work with a queue of Node's, as its documents have it, and prints when
// each job began: a line {"filled": ms} when all are stored, which waits for a line on
// standard input, then one {"began": [ms after the second, by job]}.
// Arguments: library, work (create, drain), port, first second (Unix), rate (0: all in the
// first second), jobs, jobs stored at a time.
import { createInterface } from 'node:readline';
import { performance } from 'node:perf_hooks';

const [library, work, port, first, rate, jobs, clients] =
  [...process.argv.slice(2, 4), ...process.argv.slice(4).map(Number)];
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const now = () => performance.timeOrigin + performance.now();
const due = (i) => 1000 * (first + (rate === 0 ? 0 : Math.floor(i / rate)));
const body = (i) => ({ i, p: 'x'.repeat(84) }); // 100 bytes, or a little more
const concurrency = 100;

const began = new Array(jobs).fill(0);
let left = jobs;
let finished;
const all = new Promise((resolve) => { finished = resolve; });
function note(i) {
  began[i] = now() - due(i);
  if (--left === 0) finished();
}

const libraries = {
  async bullmq() {
    const { Queue, Worker } = await import('bullmq');
    const connection = { host: '127.0.0.1', port };
    const options = { removeOnComplete: true, removeOnFail: true };
    const queue = new Queue('bench', { connection });
    const delayed = (i) => ({ ...options, delay: Math.max(0, due(i) - Date.now()) });
    return {
      one: (i) => queue.add('job', body(i), delayed(i)),
      many: (from, to) => {
        const chunk = [];
        for (let i = from; i < to; i++) chunk.push({ name: 'job', data: body(i), opts: delayed(i) });
        return queue.addBulk(chunk);
      },
      work: () => new Worker('bench', async (job) => note(job.data.i), { connection, concurrency, removeOnComplete: { count: 0 } }).waitUntilReady(),
    };
  },
  async beequeue() {
    const { default: Queue } = await import('bee-queue');
    const queue = new Queue('bench', {
      redis: { host: '127.0.0.1', port }, activateDelayedJobs: true, removeOnSuccess: true, removeOnFailure: true, sendEvents: false, getEvents: false, storeJobs: false,
    });
    const job = (i) => queue.createJob(body(i)).delayUntil(due(i));
    return {
      one: (i) => job(i).save(),
      many: (from, to) => {
        const chunk = [];
        for (let i = from; i < to; i++) chunk.push(job(i));
        return queue.saveAll(chunk);
      },
      work: async () => { queue.process(concurrency, async (j) => note(j.data.i)); },
    };
  },
};

const queue = await libraries[library]();
if (work === 'create') {
  let next = 0;
  const start = now();
  await Promise.all(Array.from({ length: clients }, async () => {
    while (next < jobs) await queue.one(next++);
  }));
  say({ seconds: (now() - start) / 1000 });
} else {
  for (let from = 0; from < jobs; from += 1000) await queue.many(from, Math.min(jobs, from + 1000));
  say({ filled: now() });
  await new Promise((resolve) => createInterface({ input: process.stdin }).once('line', resolve));
  await queue.work();
  await all;
  say({ began });
}
process.stdout.write("", () => process.exit(0)); // not before all is written
