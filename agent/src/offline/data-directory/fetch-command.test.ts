import { userInfo } from "node:os";
import { expect, test } from "vitest";
import { fetchCommand, tryFetchCommand } from "./fetch-command.ts";

const archive = { clusterId: "cls_1", endLsn: undefined };
const { uid, gid, username: name, homedir: home } = userInfo();

test("a path with the end of a line is refused, which no server would read again", () => {
  expect(() => fetchCommand({ ...archive, repo: "/a\nb" })).toThrow(
    expect.objectContaining({ reason: "INVALID_FIELD" }),
  );
});

test("it is tried as a server runs it, whatever percent signs are in its paths, and the environment of S3 is for S3 alone", async () => {
  // What stands for the program says with what it was called.
  const repo = "/backups/100%free%p";
  const command = fetchCommand({ ...archive, repo }).replace(
    /^.*? 'fetch' /,
    `test '${repo.replaceAll("%", "%%")}' = `,
  );
  const end = command.replace(/'--repo' ('[^']*').*$/, "$1 && test %f = 000000010000000000000003");
  const options = { repo, user: { uid, gid, name, home, groups: [] }, segment: "000000010000000000000003" };
  process.env["AWS_COPPICE_TEST"] = "set";
  const tried = { ...options, systemIdentifier: "1", signal: AbortSignal.timeout(10_000) };
  expect(await tryFetchCommand(end, tried)).toEqual([]);
  expect(await tryFetchCommand(end, { ...tried, repo: "s3://bucket" })).toEqual([
    expect.stringContaining("AWS_COPPICE_TEST"),
  ]);
  delete process.env["AWS_COPPICE_TEST"];
});
