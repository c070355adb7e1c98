// The two client libraries behind one interface: call(action, parameters) with the cloud's names,
// answers with the cloud's names, errors with `code`. Nothing but the endpoint and the key is set,
// as anybody who uses them with the cloud would. An endpoint is "http://HOST:PORT" or "https://…".
'use strict';

const ecs = require('@alicloud/ecs20140526');
const { $OpenApiUtil } = require('@alicloud/openapi-core');
const PopCore = require('@alicloud/pop-core').RPCClient;

const lowerFirst = (name) => name[0].toLowerCase() + name.slice(1);

// Signature v3: every action has a method and a class for its request.
class EcsClient {
  constructor(endpoint, key) {
    this.name = '@alicloud/ecs20140526';
    const Client = ecs.default;
    this.client = new Client(new $OpenApiUtil.Config({
      accessKeyId: key.id,
      accessKeySecret: key.secret,
      endpoint: new URL(endpoint).host,
      protocol: new URL(endpoint).protocol.slice(0, -1).toUpperCase(),
    }));
  }

  async call(action, parameters) {
    const Request = ecs[`${action}Request`];
    const fields = {};
    for (const [name, value] of Object.entries(parameters)) {
      const Entry = ecs[`${action}Request${name}`];
      const model = (entry) => new Entry(Object.fromEntries(
        Object.entries(entry).map(([member, content]) => [lowerFirst(member), content])));
      const field = lowerFirst(name);
      if (Entry === undefined) fields[field] = value;
      else fields[field] = Array.isArray(value) ? value.map(model) : model(value);
    }
    const response = await this.client[lowerFirst(action)](new Request(fields));
    if (response.statusCode !== 200) throw new Error(`${action}: status ${response.statusCode}`);
    return response.body.toMap();
  }
}

// Signature v1, by GET or by POST with a form.
class PopCoreClient {
  constructor(endpoint, key, method) {
    this.name = `@alicloud/pop-core ${method}`;
    this.method = method;
    this.client = new PopCore({
      accessKeyId: key.id,
      accessKeySecret: key.secret,
      endpoint,
      apiVersion: '2014-05-26',
    });
  }

  call(action, parameters) {
    // It writes out lists, but no structures: those its users write out themselves.
    const flat = {};
    for (const [name, value] of Object.entries(parameters)) {
      if (typeof value !== 'object' || Array.isArray(value)) flat[name] = value;
      else for (const [member, content] of Object.entries(value)) flat[`${name}.${member}`] = content;
    }
    return this.client.request(action, flat, { method: this.method });
  }
}

module.exports = { EcsClient, PopCoreClient };
