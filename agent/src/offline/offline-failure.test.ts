import { Failure } from "@coppice/proto/kit/failure";
import { reasons } from "@coppice/proto/kit/reasons";
import { expect, test } from "vitest";
import { offlineFailure } from "./offline-failure.ts";

test("whatever fails, what comes next is no command that needs a control plane", () => {
  for (const reason of Object.keys(reasons)) {
    const seen = offlineFailure(new Failure(reason, "it failed", { metadata: { key: "a" } }));
    expect(seen).toMatchObject({ reason, message: "it failed", metadata: { key: "a" } });
    expect((seen as Failure).hint).not.toMatch(/\bcoppice [a-z]/);
    expect((seen as Failure).hint).not.toBe("");
  }
});

test("who has no control plane is told to give the identity, not to go to another host", () => {
  expect(offlineFailure(new Failure("IDENTITY_MISSING", "it is encrypted"))).toMatchObject({
    hint: "give the identity file of one of the named recipients: --identity FILE",
  });
});

test("a hint of its own keeps what it says", () => {
  const hint = "see that the SSH server runs, then `coppice repository check`";
  const seen = offlineFailure(new Failure("REPOSITORY_UNREACHABLE", "no", { hint }));
  expect(seen).toMatchObject({ hint: "see that the SSH server runs, then try again" });
  const damage = new Failure("CONTENT_UNREADABLE", "no", { hint: "go before it; see `coppice wal verify CLUSTER`" });
  expect(offlineFailure(damage)).toMatchObject({
    hint: "go before it; see `coppice-agent verify CLUSTER --repo … --wal`",
  });
  const plain = new Failure("SPACE_MISSING", "no", { hint: "make room" });
  expect(offlineFailure(plain)).toBe(plain);
});
