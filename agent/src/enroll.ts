import { text } from "node:stream/consumers";
import { type EnrolmentToken, parseEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { fail } from "@coppice/proto/kit/failure";
import type { Config } from "./config.ts";
import { enrol } from "./session/enrolment.ts";
import { hasIdentity, type Identity, prepareDataDirectory, writeIdentity } from "./session/identity.ts";
import { agentVersion } from "./version.ts";

/** What an enrolment is asked for with. */
export interface EnrolOptions {
  readonly config: Config;
  /** Gives up an enrolment that is there. */
  readonly replace: boolean;
  /** Where the token is read from, up to its end. */
  readonly input: NodeJS.ReadableStream;
}

/**
 * Enrols this agent: nothing is sent before the folder is known to be usable, since a token works once. Fails with
 * ALREADY_ENROLLED, TOKEN_MALFORMED, DATA_FOLDER_UNUSABLE and what `enrol` fails with.
 */
export async function enrolAgent({ config, replace, input }: EnrolOptions, signal: AbortSignal): Promise<Identity> {
  const { dataDirectory } = config;
  const token: EnrolmentToken = parseEnrolmentToken(await text(input));
  if (!replace && (await hasIdentity(dataDirectory))) {
    fail("ALREADY_ENROLLED", `the folder ${dataDirectory} holds an enrolment already`);
  }
  await prepareDataDirectory(dataDirectory);
  const identity = await enrol(token, agentVersion(), signal);
  await writeIdentity(dataDirectory, identity);
  return identity;
}
