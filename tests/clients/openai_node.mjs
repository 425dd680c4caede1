// OpenAI's own client for Node. Its folder of packages is the first argument; a task as JSON on stdin, answers on stdout.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.argv[2], "package.json"));
const { OpenAI, APIError } = require("openai");
const task = JSON.parse(readFileSync(0, "utf8"));

async function answer(client, testCase, sound) {
  try {
    if (testCase.do === "models") {
      const models = [];
      for await (const model of client.models.list()) models.push(model.id);
      return { models };
    }
    if (testCase.do === "model") return { models: [(await client.models.retrieve(testCase.id)).id] };
    const response = await client.audio.speech.create(testCase.options);
    writeFileSync(sound, Buffer.from(await response.arrayBuffer()));
    return { sound, content_type: response.headers.get("content-type") };
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    const { status, error: body, requestID } = error;
    return {
      class: error.constructor.name, status, message: body?.message, param: body?.param, request_id: requestID,
    };
  }
}

const answers = {};
for (const [name, testCase] of Object.entries(task.cases)) {
  const client = new OpenAI({ baseURL: task.base_url, apiKey: testCase.api_key ?? task.api_key });
  answers[name] = await answer(client, testCase, join(task.folder, name));
}
const version = JSON.parse(readFileSync(join(process.argv[2], "node_modules/openai/package.json"), "utf8")).version;
console.log(JSON.stringify({ client: "openai (Node)", version, answers }));
