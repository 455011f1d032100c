import { Readable } from "node:stream";
import { fail } from "@coppice/proto/kit/failure";
import { openChain } from "./chain.ts";
import type { Program } from "./program.ts";

/** What a program is run with. */
export interface RunOptions {
  readonly signal: AbortSignal;
  /** Its whole stdin; none means /dev/null. */
  readonly input?: string | Uint8Array;
  /** More output than this is a PROGRAM_FAILED; 16 MiB when left out. */
  readonly maxOutputBytes?: number;
}

/** What a program that ended with 0 has written. */
export interface Ran {
  readonly stdout: Buffer;
  /** Its last 20 lines, without those that the program hides. */
  readonly stderr: string;
}

/**
 * Runs one program to its end. Fails with PROGRAM_MISSING, OS_USER_NOT_USABLE, PROGRAM_FAILED (metadata: program,
 * exitCode or signal, stderr) or the signal's reason; then nothing of its process group is left.
 */
export async function runProgram(program: Program, options: RunOptions): Promise<Ran> {
  const { signal, input, maxOutputBytes = 16 << 20 } = options;
  let lines: string[] = [];
  await using chain = await openChain([program], {
    signal,
    ...(input === undefined ? {} : { input: Readable.from([Buffer.from(input)]) }),
    onStderr: (_, line) => (lines = [...lines.slice(-19), line]),
  });
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of chain.output as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > maxOutputBytes) {
      fail("PROGRAM_FAILED", `${program.file} wrote more than ${maxOutputBytes} bytes`);
    }
  }
  await chain.done;
  return { stdout: Buffer.concat(chunks), stderr: lines.join("\n") };
}
