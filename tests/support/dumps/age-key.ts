import { runProgram } from "../run-program.ts";

/** A new key pair of age. */
export interface AgeKey {
  /** age1… */
  readonly recipient: string;
  /** The identity file as age-keygen writes it, comments included. */
  readonly identityFile: string;
}

export async function makeAgeKey(): Promise<AgeKey> {
  const { code, stdout, stderr } = await runProgram("age-keygen", [], { env: { PATH: "/usr/bin:/bin" } });
  const recipient = /age1[0-9a-z]{58}/.exec(stdout)?.[0];
  if (code !== 0 || recipient === undefined) throw new Error(`age-keygen: ${stderr}`);
  return { recipient, identityFile: stdout };
}
