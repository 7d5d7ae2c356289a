// A real, certified identity provider, in memory: provider.mjs PORT REDIRECT_URI. Whoever signs in as NAME is
// NAME@example.com; of "linus" nobody verified the address.
import { Provider } from "oidc-provider";

const [port, redirect] = process.argv.slice(2);

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "stanch",
      client_secret: "a-secret-of-the-tests",
      redirect_uris: [redirect],
      response_types: ["code"],
      grant_types: ["authorization_code"],
    },
  ],
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  pkce: { required: () => true },
  cookies: { keys: ["a key of the tests"] },
  findAccount: async (_, id) => ({
    accountId: id,
    claims: async () => ({
      sub: id,
      email: `${id}@example.com`,
      email_verified: id !== "linus",
      groups: ["sre", `team-of-${id}`],
    }),
  }),
});

provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
