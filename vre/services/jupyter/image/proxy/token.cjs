// The proxy knows its API's token only from its environment: read it from the mounted file before it starts.
process.env.CONFIGPROXY_AUTH_TOKEN = require("fs").readFileSync("/run/secrets/proxy/token", "utf8").trim();
