// Writing no faster than the other side reads.
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';

/** Writes, and waits until there is room for more; false if nobody reads any longer. */
export async function write(stream, data) {
  if (stream.destroyed || stream.writableEnded) return false;
  if (stream.write(data))
    await turn(); // So that what the other side says is heard, too.
  else await Promise.race([once(stream, 'drain'), once(stream, 'close')]).catch(() => {});
  return !stream.destroyed;
}

/** One after the other, each by itself. */
export async function writeEach(stream, parts) {
  for (const part of parts) await write(stream, part);
}

/** This beginning, and then the filler until there was enough or nobody reads any longer. */
export async function writeEndless(stream, begin, filler, bytes) {
  if (!(await write(stream, begin))) return;
  for (let written = 0; written < bytes; written += filler.length) {
    if (!(await write(stream, filler))) return;
  }
}
