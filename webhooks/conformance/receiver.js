// An application that answers requests whose signature Twilio's own helper library accepts, and refuses all others. It is
// told the secret as its argument, and prints the port that it listens on.
import http from 'node:http';
import twilio from 'twilio';

const secret = process.argv[2];

const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts).toString('utf8');
    const params = {};
    // As Express and most frameworks read a form: a name that comes again makes an array.
    for (const [name, value] of new URLSearchParams(body)) {
      params[name] = name in params ? [].concat(params[name], value) : value;
    }
    const url = `http://${request.headers.host}${request.url}`;
    const valid = twilio.validateRequest(secret, request.headers['x-twilio-signature'] ?? '', url, params);
    response.writeHead(valid ? 200 : 403, { 'Content-Type': 'text/xml' });
    response.end(valid ? '<Response><Hangup/></Response>' : `refused: ${url} ${JSON.stringify(params)}`);
  });
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume(); // whoever started it has gone
