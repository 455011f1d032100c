import { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import type { RepositoryRow } from "../catalog/repository.ts";
import { chooseRepository, requireReachable } from "./choose-repository.ts";

const db7 = { id: "hst_7", name: "db7" };
const db8 = { id: "hst_8", name: "db8" };

function repository(name: string, homeHostId: string, reachable: boolean | null = null): RepositoryRow {
  const time = new Date(0);
  return {
    id: `rep_${name}`,
    name,
    labels: {},
    version: 1,
    createTime: time,
    updateTime: time,
    location: {},
    locationKey: `filesystem:${homeHostId}:/${name}`,
    homeHostId,
    writeSecretId: null,
    readSecretId: null,
    deleteSecretId: null,
    encryption: null,
    identitySecretId: null,
    reachable,
    reachableTime: null,
    unreachableSince: null,
    problem: "",
  };
}

function failureOf(work: () => unknown): Partial<Failure> {
  try {
    work();
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  return {};
}

test("the only repository that the host reaches is taken", () => {
  expect(chooseRepository([repository("main", "hst_7"), repository("other", "hst_8")], db7).name).toBe("main");
});

test("of several repositories the only one that is not known to be unreachable is taken", () => {
  const [gone, untried] = [repository("gone", "hst_7", false), repository("untried", "hst_7")];
  expect(chooseRepository([gone, untried, repository("other", "hst_8", true)], db7).name).toBe("untried");
  // Alone it is tried all the same: the folder may be back.
  expect(chooseRepository([gone], db7).name).toBe("gone");
  expect(failureOf(() => chooseRepository([gone, untried, repository("third", "hst_7", true)], db7))).toMatchObject({
    code: "invalid_argument",
    message: "host db7 can reach several repositories: gone, untried, third",
    hint: "name one of them: --to untried",
  });
});

test("of several repositories the first one that is usual is taken, also when it is not reachable now", () => {
  const several = [repository("main", "hst_7"), repository("second", "hst_7", false), repository("other", "hst_8")];
  expect(chooseRepository(several, db7, ["rep_other", "rep_second", "rep_main"]).name).toBe("second");
});

test("of several repositories none is taken, and the refusal lists them", () => {
  const several = [repository("main", "hst_7"), repository("second", "hst_7")];
  expect(failureOf(() => chooseRepository(several, db7))).toMatchObject({
    reason: "REPOSITORY_AMBIGUOUS",
    message: "host db7 can reach several repositories: main, second",
    hint: "name one of them: --to main",
  });
});

test("without a repository in reach the refusal says how to add one", () => {
  expect(failureOf(() => chooseRepository([repository("main", "hst_7")], db8))).toMatchObject({
    reason: "REPOSITORY_AMBIGUOUS",
    hint: "add one: coppice repo add NAME db8:/path",
  });
});

test("a folder of another host is refused with both hosts named", () => {
  const main = repository("main", "hst_7");
  expect(failureOf(() => requireReachable(main, db7, db8))).toMatchObject({
    reason: "REPOSITORY_WRONG_HOST",
    message: "repository main is a folder of host db7, not of db8",
  });
  expect(failureOf(() => requireReachable(main, db7, db7))).toEqual({});
});
