// Certificates for tests: an authority of one's own, made by openssl, and the pair it has issued for this machine.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const DAYS = '36500'; // Far beyond the life of a test.

/** Makes them in `dir`: the paths { ca, cert, key }. */
export function makeAuthority(dir) {
  const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  // Python's ssl wants the usages said.
  const usages = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign';
  writeFileSync(join(dir, 'extensions'), 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n');
  const exts = usages.split('\n').flatMap((extension) => ['-addext', extension]);
  openssl(
    'req',
    '-x509',
    '-subj',
    '/CN=Test authority',
    '-days',
    DAYS,
    ...exts,
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  );
  openssl('req', '-subj', '/CN=localhost', ...newKey, '-keyout', 'server.key', '-out', 'server.csr');
  const signing = ['x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'];
  openssl(...signing, '-days', DAYS, '-extfile', 'extensions', '-out', 'server.pem');
  return { ca: join(dir, 'ca.pem'), cert: join(dir, 'server.pem'), key: join(dir, 'server.key') };
}
