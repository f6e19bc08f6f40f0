// The hostile server over stdio: a line a message.
import { createInterface } from 'node:readline';
import { receive } from './faults.mjs';
import { write, writeEach, writeEndless } from './writing.mjs';

export function serveStdio(list) {
  const out = process.stdout;
  const line = {
    send: (text) => write(out, `${text}\n`),
    pieces: (text) => writeEach(out, [...`${text}\n`]),
    half: (text) => out.write(text.slice(0, text.length / 2), () => process.exit(0)),
    endless: (begin, filler, bytes) => writeEndless(out, begin, filler, bytes),
    end: () => {},
    isOpen: () => !out.destroyed,
  };
  out.on('error', () => process.exit(0));
  createInterface({ input: process.stdin })
    .on('line', (text) => receive(text, line, list))
    .on('close', () => process.exit(0));
}
