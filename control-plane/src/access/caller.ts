import type { RoleName } from "../catalog/schema/token.ts";

/** Who makes a call, as far as it is known. */
export interface Caller {
  /** Name of the token; what operations and the audit show. */
  readonly principal: string;
  /** Id of the token (tok_…), under which request ids are kept. */
  readonly principalId: string;
  readonly role: RoleName;
  /** Address that the call came from. */
  readonly peerAddress: string;
}
