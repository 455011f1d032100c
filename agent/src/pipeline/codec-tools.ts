import { runProgram } from "../host/run.ts";
import type { Encoding } from "./stages.ts";

/** A program and what it says of its version. */
export interface CodecTool {
  readonly name: string;
  readonly version: string;
}

/** The programs that encode, for the manifest. Fails with PROGRAM_MISSING. */
export async function readCodecTools(
  { codec, recipients }: Pick<Encoding, "codec" | "recipients">,
  signal: AbortSignal,
): Promise<CodecTool[]> {
  const names = [...(codec === "none" ? [] : [codec]), ...(recipients.length > 0 ? ["age"] : [])];
  return await Promise.all(
    names.map(async (name) => {
      const { stdout } = await runProgram({ file: name, args: ["--version"] }, { signal });
      return { name, version: /v?\d+(\.\d+)+/.exec(stdout.toString("utf8"))?.[0] ?? "unknown" };
    }),
  );
}
