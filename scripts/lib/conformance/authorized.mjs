// The suite knows no secrets: whatever it asks the bridge's listener carries the one of BRIDGE_SECRET.
import http from "node:http";
import { syncBuiltinESMExports } from "node:module";

const authorization = `Bearer ${process.env.BRIDGE_SECRET}`;

const fetched = globalThis.fetch;
globalThis.fetch = (input, init = {}) => {
    const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : undefined));
    if (!headers.has("authorization")) headers.set("authorization", authorization);
    return fetched(input, { ...init, headers });
};

const requested = http.request;
http.request = (...words) => {
    const request = requested(...words);
    if (!request.hasHeader("authorization")) request.setHeader("authorization", authorization);
    return request;
};
syncBuiltinESMExports();
