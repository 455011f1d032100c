import { fail } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";

const limitBytes = 64 * 1024;

/** The secret that standard input holds, without the newline at its end. Fails with INVALID_FIELD when there is none. */
export async function readSecretFromStdin(
  stdin: NodeJS.ReadStream,
  what: string,
  signal: AbortSignal,
): Promise<string> {
  let text = "";
  stdin.setEncoding("utf8");
  const read = async () => {
    for await (const chunk of stdin as AsyncIterable<string>) {
      text += chunk;
      if (text.length > limitBytes) fail("INVALID_FIELD", `standard input is too long to be a ${what}`);
    }
  };
  await raceSignal(read(), signal);
  const secret = text.replace(/\r?\n$/, "");
  if (secret === "") {
    fail("INVALID_FIELD", `there is no ${what} on standard input`, { hint: `feed the ${what} to standard input` });
  }
  return secret;
}
