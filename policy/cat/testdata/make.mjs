// Makes theirs.json, and writes what @eyevinn/cat says of our tokens into
// ours.json. See README.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { CAT } from '@eyevinn/cat';

const kid = 'link-1';
const secret = '8f1c6a0e2b9d4735c1e8f05a7b6d3924e0a1b2c3d4e5f60718293a4b5c6d7e8f';
const cti = '00112233445566778899aabbccddeeff';
const base = { iss: 'https://radio.example', exp: 4000000000, iat: 1800000000, cti };
const prefix = { catu: { path: { 'prefix-match': '/listen/' } } };
const exact = { catu: { path: { 'exact-match': '/listen/bafkqaaa' } } };

// name, claims, what our verifier must say at 1800000100 to GET /listen/bafkqaaa
const theirs = [
  ['no path', {}, 'ok'],
  ['prefix', prefix, 'ok'],
  ['exact', exact, 'ok'],
  ['methods', { ...exact, catm: ['GET', 'HEAD'] }, 'ok'],
  ['subject and audience', { ...exact, sub: 'alice', aud: 'musen' }, 'ok'],
  ['audiences', { ...exact, aud: ['musen', 'other'] }, 'ok'],
  ['CWT tag cut off', exact, 'ok', { cut: 2 }],
  ['claims in hexadecimal, as they spell tokens without the CWT tag', exact, 'malformed', { expectCwtTag: false }],
  ['other prefix', { catu: { path: { 'prefix-match': '/ipfs/' } } }, 'scope'],
  ['other exact', { catu: { path: { 'exact-match': '/listen/bafkqaab' } } }, 'scope'],
  ['other method', { catm: ['POST'] }, 'scope'],
  ['expired', { exp: 1800000100 }, 'expired'],
  ['not yet valid', { nbf: 1800000101 }, 'not yet valid'],
  ['version 2', { catv: 2 }, 'malformed'],
  ['other key', exact, 'mac', { secret: secret.replace('8f', '8e') }],
  ['host', { catu: { host: { 'exact-match': 'radio.example' } } }, 'malformed'],
  ['host and path', { catu: { host: { 'exact-match': 'radio.example' }, ...prefix.catu } }, 'malformed'],
  ['suffix', { catu: { path: { 'suffix-match': 'aaa' } } }, 'malformed'],
  ['contains', { catu: { path: { 'contains-match': 'listen' } } }, 'malformed'],
  ['regular expression', { catu: { path: { 'regex-match': ['/listen/.*'] } } }, 'malformed'],
  ['hash of the path', { catu: { path: { 'sha256-match': '00' } } }, 'malformed'],
  ['network', { catnip: ['192.0.2.0/24'] }, 'malformed'],
  ['country', { catgeoiso3166: ['EE'] }, 'malformed'],
  ['once', { catreplay: 1 }, 'malformed'],
  ['probability', { catpor: [1, 2] }, 'malformed'],
  ['protocol', { catalpn: ['h2'] }, 'malformed'],
  ['header', { cath: { 'user-agent': { 'prefix-match': 'x' } } }, 'malformed'],
  ['if', { catif: { exp: [307, { Location: 'https://radio.example/' }, 'k'] } }, 'malformed'],
  ['renewal', { catr: { type: 'header', 'header-name': 'cta-common-access-token', expadd: 120, deadline: 60 } }, 'malformed'],
];

const made = [];
for (const [name, claims, want, options = {}] of theirs) {
  const generator = new CAT({
    keys: { [kid]: Buffer.from(options.secret ?? secret, 'hex') },
    expectCwtTag: options.expectCwtTag ?? true,
  });
  const all = { ...base, ...claims };
  const whole = await generator.generateFromJson(structuredClone(all), { type: 'mac', alg: 'HS256', kid });
  const token = Buffer.from(whole, 'base64url').subarray(options.cut ?? 0).toString('base64url');
  made.push({ name, claims: all, token, want });
}
writeFileSync('theirs.json', JSON.stringify({ kid, secret, vectors: made }, null, 2) + '\n');

const ours = JSON.parse(readFileSync('ours.json'));
const validator = new CAT({ keys: { [ours.kid]: Buffer.from(ours.secret, 'hex') }, expectCwtTag: true });
for (const v of ours.vectors) {
  for (const check of v.checks) {
    let answer;
    try {
      const { error } = await validator.validate(v.token, 'mac', {
        issuer: check.issuer, audience: ['musen'], url: new URL('https://radio.example' + check.path),
      });
      answer = error ? error.constructor.name : 'accepted';
    } catch (e) {
      answer = e.constructor.name;
    }
    check.answer = answer;
  }
}
writeFileSync('ours.json', JSON.stringify(ours, null, 2) + '\n');
