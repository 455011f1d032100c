import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { text } from "node:stream/consumers";

/** Calls a method of the control plane, such as HostService/GetHost, with a JSON body, and gives its JSON answer. */
export type JsonCall = <Answer>(method: string, body: object) => Promise<Answer>;

/** How a test looks at the control plane without the CLI, whose start costs a third of a second each time. */
export function openJsonCall(address: string, token: string): JsonCall {
  // The CLI compares the certificate; this only looks.
  const agent = new Agent({ rejectUnauthorized: false });
  return async <Answer>(method: string, body: object) => {
    const sent = request(`${address}/coppice.control.v1.${method}`, {
      agent,
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    });
    sent.end(JSON.stringify(body));
    const [response] = (await once(sent, "response")) as [IncomingMessage];
    const answer = await text(response);
    if (response.statusCode !== 200) throw new Error(`${method} was answered with ${response.statusCode}: ${answer}`);
    return JSON.parse(answer) as Answer;
  };
}
