import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { RecoveryAction, RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { expect, test } from "vitest";
import { microsecondsOf, timestampOf } from "./microseconds.ts";
import { parseTarget, serverTarget } from "./recovery-target.ts";

type Point = MessageInitShape<typeof RecoveryTargetSchema>["point"];

test.for([
  [undefined],
  [{ case: "lsn", value: "16/B374D848" }],
  [{ case: "xid", value: 742 }],
  [{ case: "name", value: "before upgrade" }],
  [{ case: "immediate", value: true }],
  [{ case: "time", value: { seconds: 1_800_000_000n, nanos: 123_456_000 } }],
] as const satisfies readonly (readonly [Point])[])(
  "a target comes back from the planner as it was asked for: $0.case",
  ([point]) => {
    const asked = create(RecoveryTargetSchema, { ...(point ? { point } : {}), exclusive: true, timeline: 3 });
    const told = serverTarget(parseTarget(asked), RecoveryAction.UNSPECIFIED);
    expect(told).toEqual(create(RecoveryTargetSchema, { ...asked, action: RecoveryAction.PROMOTE }));
  },
);

test("times are whole microseconds, before 1970 too", () => {
  for (const timeUs of [0n, 1n, -1n, -1_000_001n, 1_800_000_000_123_456n]) {
    expect(microsecondsOf(timestampOf(timeUs))).toBe(timeUs);
  }
});
