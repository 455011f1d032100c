import type { MessageInitShape } from "@bufbuild/protobuf";
import { RecoveryAction, type RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { fail } from "../failure.ts";
import { formatLsn, parseLsn } from "../wal/lsn.ts";
import { parseInstant } from "./instant.ts";

/** Where recovery is to end, as flags of a command line say it. */
export interface RecoveryFlags {
  readonly at?: string;
  readonly lsn?: string;
  readonly xid?: number;
  readonly name?: string;
  readonly immediate?: boolean;
  readonly latest?: boolean;
  readonly exclusive?: boolean;
  readonly timeline?: number;
  readonly action?: string;
}

/** The flags that each name a point; at most one is given. */
export const recoveryPoints = ["at", "lsn", "xid", "name", "immediate", "latest"] as const;

const actions = {
  promote: RecoveryAction.PROMOTE,
  pause: RecoveryAction.PAUSE,
  shutdown: RecoveryAction.SHUTDOWN,
};
const isGiven = (value: unknown) => value !== undefined && value !== false;

/** The target that the flags stand for, times counted back from `now`. Fails with INVALID_FIELD for what contradicts itself. */
export function recoveryTargetOf(flags: RecoveryFlags, now: Date): MessageInitShape<typeof RecoveryTargetSchema> {
  const given = recoveryPoints.filter((name) => isGiven(flags[name]));
  if (given.length > 1) {
    fail("INVALID_FIELD", `${given.map((name) => `--${name}`).join(" and ")} are different points`, {
      hint: "recovery ends at one of them: leave the others out",
    });
  }
  const [name] = given;
  if (flags.exclusive && name !== "at" && name !== "lsn" && name !== "xid") {
    fail("INVALID_FIELD", "--exclusive leaves out what is exactly at a time, a position or a transaction", {
      hint: "give --at, --lsn or --xid with it",
    });
  }
  const action = flags.action === undefined ? RecoveryAction.UNSPECIFIED : parseAction(flags.action);
  if (flags.action !== undefined && (name === undefined || name === "latest")) {
    fail("INVALID_FIELD", "--action is what the server does at a point, and at the end of all WAL it always promotes", {
      hint: "leave it out, or name a point: --at, --lsn, --xid, --name or --immediate",
    });
  }
  return {
    point: recoveryPoint(name, flags, now),
    exclusive: flags.exclusive ?? false,
    timeline: flags.timeline ?? 0,
    action,
  };
}

function recoveryPoint(
  name: (typeof recoveryPoints)[number] | undefined,
  { at = "", lsn = "", xid = 0, name: restorePoint = "" }: RecoveryFlags,
  now: Date,
): NonNullable<MessageInitShape<typeof RecoveryTargetSchema>["point"]> {
  switch (name) {
    case "at": {
      const micros = parseInstant(at, now);
      return { case: "time", value: { seconds: micros / 1_000_000n, nanos: Number(micros % 1_000_000n) * 1000 } };
    }
    case "lsn":
      return { case: "lsn", value: formatLsn(parseLsn(lsn)) };
    case "xid":
      return { case: "xid", value: xid };
    case "name":
      return { case: "name", value: restorePoint };
    case "immediate":
      return { case: "immediate", value: true };
    case "latest":
    case undefined:
      return { case: undefined };
  }
}

function parseAction(text: string): RecoveryAction {
  const [, action] = Object.entries(actions).find(([name]) => name === text) ?? [];
  if (action !== undefined) return action;
  return fail("INVALID_FIELD", `--action is ${JSON.stringify(text)}`, {
    hint: `use one of ${Object.keys(actions).join(", ")}`,
  });
}
