// An OpenID provider on 127.0.0.1, with one client, whose redirect URI is the first argument, and a sign-in page that takes
// anyone. What is typed as the login is the subject and the e-mail address; one that begins with "unverified" has not been
// verified. With the argument "claims-in-token" the address is in the ID token and need not be asked for. It prints its
// issuer, and ends with its standard input.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [redirectURI] = process.argv.slice(2);
const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{ client_id: 'hookswitch', client_secret: 'the secret of the client', redirect_uris: [redirectURI] }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  conformIdTokenClaims: !process.argv.includes('claims-in-token'),
  cookies: { keys: ['of a test'] },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, email: sub, email_verified: !sub.startsWith('unverified'), name: sub }),
  }),
});
provider.on('server_error', (_, error) => console.error(error));
server.on('request', provider.callback());
console.log(issuer);
process.stdin.on('end', () => process.exit(0)).resume();
