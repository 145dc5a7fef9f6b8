// An LLM endpoint for benchmarks: chat completions after a delay, by HTTP/2 or HTTP/1.1 as the client asks (ALPN).
//
//   HOST=127.0.0.1 PORT=8443 PKI=folder node llm.mjs       (PKI has srv.key and srv.pem; "ready" is printed)
//
// Delay in milliseconds: header x-delay-ms of the request. GET /stats gives connections and requests by protocol, GET /reset zeroes them.
import http2 from 'node:http2';
import fs from 'node:fs';

const { HOST = '127.0.0.1', PORT = '8443', PKI } = process.env;
const WORDS = 'the operator reconciles the custom resource and reports status back to the cluster '.repeat(16);
const COMPLETION = JSON.stringify({
  id: 'chatcmpl-1', object: 'chat.completion', created: 1, model: 'mock',
  choices: [{ index: 0, message: { role: 'assistant', content: WORDS }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 400, completion_tokens: 260, total_tokens: 660 },
});
const event = (delta, finish = null, usage = null) =>
  'data: ' + JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'mock', choices: [{ index: 0, delta, finish_reason: finish }], usage }) + '\n\n';
const STREAM = event({ content: WORDS }) + event({}, 'stop', { prompt_tokens: 400, completion_tokens: 260 }) + 'data: [DONE]\n\n';

let stats;
const zero = () => { stats = { connections: 0, requests: { '1.1': 0, '2.0': 0 } }; };
zero();

function answer(request, response) {
  if (request.url === '/stats' || request.url === '/reset') {
    response.end(JSON.stringify(stats));
    if (request.url === '/reset') zero();
    return;
  }
  stats.requests[request.httpVersion]++;
  const parts = [];
  request.on('error', () => {});
  response.on('error', () => {});
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const streamed = JSON.parse(Buffer.concat(parts).toString() || '{}').stream;
    const [type, body] = streamed ? ['text/event-stream', STREAM] : ['application/json', COMPLETION];
    setTimeout(() => {
      if (response.destroyed) return;
      response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
      response.end(body);
    }, Number(request.headers['x-delay-ms'] || 0));
  });
}

const options = {
  key: fs.readFileSync(`${PKI}/srv.key`), cert: fs.readFileSync(`${PKI}/srv.pem`), allowHTTP1: true,
  settings: { maxConcurrentStreams: 256, initialWindowSize: 1 << 20 },
};
const server = http2.createSecureServer(options, answer);
server.keepAliveTimeout = 120e3;
server.on('secureConnection', () => stats.connections++).on('sessionError', () => {});
server.listen(Number(PORT), HOST, 4096, () => console.log('ready'));
