// A disk's life, driven by the cloud's client libraries, with the bytes checked over NBD at each
// step. Usage: node lifecycle.js ENDPOINT NBD-SOCKET; the key is in the environment.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const { EcsClient, PopCoreClient } = require('./clients.js');

const [endpoint, nbdSocket] = process.argv.slice(2);
const key = {
  id: process.env.ALIBABA_CLOUD_ACCESS_KEY_ID,
  secret: process.env.ALIBABA_CLOUD_ACCESS_KEY_SECRET,
};
const region = 'cn-local';
const answerMaxMs = 3000; // The ECS library waits no longer.

const uri = (disk) => `nbd+unix:///${disk}?socket=${nbdSocket}`;
// Fails where the pattern is another.
const io = (disk, ...commands) => execFileSync(
  'qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri(disk)],
  { stdio: ['ignore', 'ignore', 'inherit'] });
const write = (disk, pattern) => io(disk, `write -P ${pattern} 1M 256k`, 'flush');
const check = (disk, pattern) => {
  const said = execFileSync('qemu-io', ['-f', 'raw', '-c', `read -P ${pattern} 1M 256k`, uri(disk)]).toString();
  assert.doesNotMatch(said, /Pattern verification failed/, `disk ${disk}, pattern ${pattern}`);
};
const exportedBytes = (disk) => JSON.parse(
  execFileSync('qemu-img', ['info', '--output=json', '-f', 'raw', uri(disk)]).toString())['virtual-size'];
const GiB = 1024 ** 3;

async function drive(client) {
  const call = async (action, parameters) => {
    const begun = Date.now();
    const answer = await client.call(action, parameters);
    assert.ok(Date.now() - begun < answerMaxMs, `${action} took ${Date.now() - begun} ms`);
    assert.match(answer.RequestId, /^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$/, action);
    return answer;
  };
  const refused = async (code, action, parameters) => {
    await assert.rejects(() => client.call(action, parameters), (error) => {
      assert.equal(error.code, code, `${action}: ${error.message}`);
      return true;
    });
  };
  const diskOf = async (id) => {
    const list = (await call('DescribeDisks', { RegionId: region, DiskIds: JSON.stringify([id]) })).Disks.Disk;
    assert.equal(list.length, 1, id);
    return list[0];
  };
  const until = async (what, done) => {
    for (let i = 0; i < 200; ++i) {
      if (await done()) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.fail(`${client.name}: ${what} took more than 10 s`);
  };
  const instanceStatus = (id, expected) => until(`instance ${id} ${expected}`, async () => {
    const list = (await call('DescribeInstances', { RegionId: region, InstanceIds: JSON.stringify([id]) })).Instances.Instance;
    return list.length === 1 && list[0].Status === expected;
  });
  const instanceGone = (id) => until(`release of ${id}`, async () =>
    (await call('DescribeInstances', { RegionId: region, InstanceIds: JSON.stringify([id]) })).TotalCount === 0);
  const status = (id, wanted) => until(`disk ${id} ${wanted}`, async () => (await diskOf(id)).Status === wanted);

  // Where there are disks.
  const regions = (await call('DescribeRegions', {})).Regions.Region;
  assert.ok(regions.some((one) => one.RegionId === region));
  const zone = (await call('DescribeZones', { RegionId: region })).Zones.Zone[0].ZoneId;

  // Create; the same token gives the same disk.
  const name = "data disk-1 +&=?#%~*!'()[] 数据盘";
  const wanted = {
    RegionId: region, ZoneId: zone, DiskCategory: 'cloud_essd', PerformanceLevel: 'PL1', Size: 40,
    DiskName: name, ClientToken: `${client.name}-${endpoint}`.replaceAll(/[^a-zA-Z0-9-]/g, '-'),
    Tag: [{ Key: 'env', Value: 'test a&b' }, { Key: 'empty', Value: '' }],
  };
  const disk = (await call('CreateDisk', wanted)).DiskId;
  assert.equal((await call('CreateDisk', wanted)).DiskId, disk);
  await refused('IdempotentParameterMismatch', 'CreateDisk', { ...wanted, Size: 80 });
  await status(disk, 'Available');
  const seen = await diskOf(disk);
  assert.equal(seen.DiskName, name);
  assert.equal(seen.Size, 40);
  assert.deepEqual(seen.Tags.Tag.map((tag) => [tag.TagKey, tag.TagValue]).sort(),
    [['empty', ''], ['env', 'test a&b']]);
  const tagged = await call('DescribeDisks', { RegionId: region, Tag: [{ Key: 'env', Value: 'test a&b' }] });
  assert.ok(tagged.Disks.Disk.some((one) => one.DiskId === disk));

  // Attach, write.
  await call('AttachDisk', { DiskId: disk, InstanceId: 'i-local' });
  await status(disk, 'In_use');
  write(disk, 0x5a);
  check(disk, 0x5a);

  // How it is, and what it did: that is on file some seconds later.
  const health = (await call('DescribeDisksFullStatus', { RegionId: region, DiskId: [disk] })).DiskFullStatusSet.DiskFullStatusType;
  assert.deepEqual(health.map((one) => [one.DiskId, one.Status.Name, one.HealthStatus.Name, one.HealthStatus.Code]),
    [[disk, 'In_use', 'Ok', 0]]);
  const minutesFromNow = (minutes) => new Date(Date.now() + minutes * 60000).toISOString().replace(/\.\d+Z/, 'Z');
  const span = { DiskId: disk, StartTime: minutesFromNow(-10), EndTime: minutesFromNow(0), Period: 60 };
  const did = (await call('DescribeDiskMonitorData', span)).MonitorData.DiskMonitorData;
  assert.ok(Array.isArray(did) && did.length <= 11);
  await refused('InvalidParameter.TooManyDataQueried', 'DescribeDiskMonitorData', { ...span, StartTime: minutesFromNow(-500) });
  await refused('InvalidPeriod.ValueNotSupported', 'DescribeDiskMonitorData', { ...span, Period: 61 });

  // Snapshot, grow online, write over it.
  const snapshot = (await call('CreateSnapshot', { DiskId: disk, SnapshotName: 'before' })).SnapshotId;
  await until(`snapshot ${snapshot}`, async () => {
    const list = (await call('DescribeSnapshots', { RegionId: region, SnapshotIds: JSON.stringify([snapshot]) })).Snapshots.Snapshot;
    assert.equal(list.length, 1);
    return list[0].Status === 'accomplished';
  });
  await call('ResizeDisk', { DiskId: disk, NewSize: 60, Type: 'online' });
  assert.equal(exportedBytes(disk), 60 * GiB);
  await call('ModifyDiskAttribute', { DiskId: disk, DiskName: 'renamed' });
  assert.equal((await diskOf(disk)).DiskName, 'renamed');
  write(disk, 0x77);

  // A policy, and tags.
  const policy = (await call('CreateAutoSnapshotPolicy', {
    regionId: region, autoSnapshotPolicyName: 'daily', timePoints: '["6"]', repeatWeekdays: '["1","7"]', retentionDays: 7,
    Tag: [{ Key: 'env', Value: 'test' }],
  })).AutoSnapshotPolicyId;
  await call('ApplyAutoSnapshotPolicy', { regionId: region, autoSnapshotPolicyId: policy, diskIds: JSON.stringify([disk]) });
  assert.equal((await diskOf(disk)).AutoSnapshotPolicyId, policy);
  const policies = (await call('DescribeAutoSnapshotPolicyEx', { RegionId: region, AutoSnapshotPolicyId: policy })).AutoSnapshotPolicies.AutoSnapshotPolicy;
  assert.equal(policies.length, 1);
  assert.equal(policies[0].TimePoints, '["6"]');
  assert.equal(policies[0].RetentionDays, 7);
  assert.equal(policies[0].DiskNums, 1);
  await call('ModifyAutoSnapshotPolicyEx', { regionId: region, autoSnapshotPolicyId: policy, retentionDays: -1 });
  await refused('ParameterInvalid', 'ModifyAutoSnapshotPolicyEx', { regionId: region, autoSnapshotPolicyId: policy, timePoints: '["24"]' });
  const tagging = { RegionId: region, ResourceType: 'snapshot', ResourceId: [snapshot] };
  await call('TagResources', { ...tagging, Tag: [{ Key: 'kind', Value: 'manual' }] });
  const listed = (await call('ListTagResources', tagging)).TagResources.TagResource;
  assert.deepEqual(listed.map((one) => [one.ResourceId, one.ResourceType, one.TagKey, one.TagValue]),
    [[snapshot, 'snapshot', 'kind', 'manual']]);
  await call('UntagResources', { ...tagging, All: true });
  assert.equal((await call('ListTagResources', tagging)).TagResources.TagResource.length, 0);
  await refused('InvalidTagKey.Malformed', 'TagResources', { ...tagging, Tag: [{ Key: 'acs:x', Value: '' }] });
  await call('CancelAutoSnapshotPolicy', { regionId: region, diskIds: JSON.stringify([disk]) });
  await call('DeleteAutoSnapshotPolicy', { regionId: region, autoSnapshotPolicyId: policy });

  // Roll back.
  await call('DetachDisk', { DiskId: disk, InstanceId: 'i-local' });
  await status(disk, 'Available');
  await call('ResetDisk', { DiskId: disk, SnapshotId: snapshot });
  await status(disk, 'Available');
  await call('AttachDisk', { DiskId: disk, InstanceId: 'i-local' });
  await status(disk, 'In_use');
  check(disk, 0x5a);

  await call('ModifySnapshotAttribute', { SnapshotId: snapshot, SnapshotName: 'renamed', Description: 'of the lifecycle' });
  const [renamed] = (await call('DescribeSnapshots', { RegionId: region, SnapshotIds: JSON.stringify([snapshot]) })).Snapshots.Snapshot;
  assert.equal(renamed.SnapshotName, 'renamed');

  // Clone.
  const clone = (await call('CreateDisk', {
    RegionId: region, ZoneId: zone, DiskCategory: 'cloud_essd', SnapshotId: snapshot, Size: 80,
  })).DiskId;
  await status(clone, 'Available');
  await call('AttachDisk', { DiskId: clone, InstanceId: 'i-local' });
  await status(clone, 'In_use');
  check(clone, 0x5a);
  assert.equal(exportedBytes(clone), 80 * GiB);
  await refused('SnapshotCreatedDisk', 'DeleteSnapshot', { SnapshotId: snapshot });

  // What is refused.
  await refused('InvalidDiskId.NotFound', 'DeleteDisk', { DiskId: 'd-none' });
  await refused('IncorrectDiskStatus', 'DeleteDisk', { DiskId: disk });
  await refused('InvalidDiskSize.TooSmall', 'ResizeDisk', { DiskId: disk, NewSize: 20 });
  await refused('InvalidRegionId.NotFound', 'DescribeDisks', { RegionId: 'mars' });
  await refused('InvalidAction.NotFound', 'LockSnapshot', {
    RegionId: region, SnapshotId: snapshot, LockMode: 'compliance', LockDuration: 1,
  });

  // Paging, by number and by token.
  const ids = new Set();
  let token = '';
  do {
    const answer = await call('DescribeDisks', { RegionId: region, MaxResults: 1, ...(token && { NextToken: token }) });
    for (const one of answer.Disks.Disk) ids.add(one.DiskId);
    token = answer.NextToken;
  } while (token);
  const page = await call('DescribeDisks', { RegionId: region, PageNumber: 1, PageSize: 100 });
  assert.equal(ids.size, page.TotalCount);
  assert.ok(ids.has(disk) && ids.has(clone));

  // An image of an instance, made from what the disk holds; another instance made from that.
  const source = (await call('RunInstances', {
    RegionId: region, ZoneId: zone, ImageId: 'local', InstanceType: 'ecs.g7.large',
    SystemDisk: { Category: 'cloud_essd', Size: '40' },
    DataDisk: [{ Category: 'cloud_essd', SnapshotId: snapshot, Size: 40 }],
  })).InstanceIdSets.InstanceIdSet[0];
  await instanceStatus(source, 'Running');
  const disksOf = async (id) => (await call('DescribeDisks', { RegionId: region, InstanceId: id })).Disks.Disk;
  const diskAt = async (id, device) => (await disksOf(id)).find((one) => one.Device === device).DiskId;
  write(await diskAt(source, '/dev/xvda'), 0x71);
  check(await diskAt(source, '/dev/xvdb'), 0x5a);
  const imageName = `web ${client.name}`;
  const image = (await call('CreateImage', {
    RegionId: region, InstanceId: source, ImageName: imageName, Tag: [{ Key: 'kind', Value: 'base' }],
  })).ImageId;
  await refused('InvalidImageName.Duplicated', 'CreateImage', { RegionId: region, InstanceId: source, ImageName: imageName });
  const imageOf = async (more) => (await call('DescribeImages', { RegionId: region, ImageId: image, ...more })).Images.Image;
  await until(`image ${image}`, async () => (await imageOf({})).length === 1);
  const [described] = await imageOf({ Tag: [{ Key: 'kind', Value: 'base' }] });
  assert.equal(described.Status, 'Available');
  const mappings = described.DiskDeviceMappings.DiskDeviceMapping;
  assert.deepEqual(mappings.map((one) => [one.Type, one.Device]), [['system', '/dev/xvda'], ['data', '/dev/xvdb']]);
  await refused('SnapshotCreatedImage', 'DeleteSnapshot', { SnapshotId: mappings[0].SnapshotId });
  await call('ModifyImageAttribute', { RegionId: region, ImageId: image, Description: 'of the lifecycle' });
  const made = (await call('RunInstances', {
    RegionId: region, ZoneId: zone, ImageId: image, InstanceType: 'ecs.g7.large',
    SystemDisk: { Category: 'cloud_essd', Size: '60' },
  })).InstanceIdSets.InstanceIdSet[0];
  await instanceStatus(made, 'Running');
  const systemDisk = await diskAt(made, '/dev/xvda');
  check(systemDisk, 0x71);
  assert.equal(exportedBytes(systemDisk), 60 * GiB);
  check(await diskAt(made, '/dev/xvdb'), 0x5a);
  await refused('ImageUsingByInstance', 'DeleteImage', { RegionId: region, ImageId: image });
  await call('StopInstance', { InstanceId: source });
  write(systemDisk, 0x72);
  await call('StopInstance', { InstanceId: made });
  await instanceStatus(made, 'Stopped');
  const replaced = (await call('ReplaceSystemDisk', { InstanceId: made, ImageId: image })).DiskId;
  assert.notEqual(replaced, systemDisk);
  await call('StartInstance', { InstanceId: made });
  await instanceStatus(made, 'Running');
  check(replaced, 0x71);
  await call('StopInstance', { InstanceId: made });
  for (const id of [source, made]) await instanceStatus(id, 'Stopped');
  // Both of them in one request, as before one by one.
  const started = (await call('StartInstances', { RegionId: region, InstanceId: [source, made] })).InstanceResponses.InstanceResponse;
  assert.deepEqual(started.map((one) => [one.InstanceId, one.PreviousStatus, one.CurrentStatus, String(one.Code)]),
    [source, made].map((id) => [id, 'Stopped', 'Starting', '200']));
  await until('two instances', async () => {
    const all = await Promise.all([source, made].map((id) => call('DescribeInstanceAttribute', { InstanceId: id })));
    return all.every((one) => one.Status === 'Running');
  });
  await refused('IncorrectInstanceStatus', 'DeleteInstances', { RegionId: region, InstanceId: [source, made] });
  await call('DeleteInstances', { RegionId: region, InstanceId: [source, made], Force: true });
  for (const id of [source, made]) await instanceGone(id);
  await call('DeleteImage', { RegionId: region, ImageId: image });
  for (const mapping of mappings) await call('DeleteSnapshot', { SnapshotId: mapping.SnapshotId });

  // An instance with a data disk.
  const instance = (await call('RunInstances', {
    RegionId: region, ZoneId: zone, ImageId: 'local', InstanceType: 'ecs.g7.large',
    InstanceName: 'web', SystemDisk: { Category: 'cloud_essd', Size: '40' },
    DataDisk: [{ Category: 'cloud_essd', Size: 40 }],
  })).InstanceIdSets.InstanceIdSet[0];
  await instanceStatus(instance, 'Running');
  const owned = (await call('DescribeDisks', { RegionId: region, InstanceId: instance })).Disks.Disk;
  assert.equal(owned.length, 2);
  const data = owned.find((one) => one.Type === 'data').DiskId;
  write(data, 0x33);
  check(data, 0x33);
  await call('StopInstance', { InstanceId: instance });
  await instanceStatus(instance, 'Stopped');
  await call('DeleteInstance', { InstanceId: instance });

  // Release.
  for (const id of [clone, disk]) {
    await call('DetachDisk', { DiskId: id, InstanceId: 'i-local' });
    await status(id, 'Available');
    await call('DeleteDisk', { DiskId: id });
  }
  await call('DeleteSnapshot', { SnapshotId: snapshot });
  await until('the release of everything', async () => (await call('DescribeDisks', { RegionId: region })).TotalCount === 0);
  console.log(`${client.name}: created, wrote, took a snapshot, grew, rolled back, cloned, made an image, ran instances, released`);
}

async function refuseStrangers() {
  const wrong = { id: key.id, secret: 'x'.repeat(30) };
  const nobody = { id: 'LTAInobody', secret: key.secret };
  for (const [who, code] of [[wrong, 'SignatureDoesNotMatch'], [nobody, 'InvalidAccessKeyId.NotFound']]) {
    for (const client of [new EcsClient(endpoint, who), new PopCoreClient(endpoint, who, 'POST')]) {
      await assert.rejects(() => client.call('DescribeDisks', { RegionId: region }),
        (error) => error.code === code, `${client.name}: ${code}`);
    }
  }
}

async function main() {
  for (const client of [
    new EcsClient(endpoint, key),
    new PopCoreClient(endpoint, key, 'POST'),
    new PopCoreClient(endpoint, key, 'GET'),
  ]) {
    await drive(client);
  }
  await refuseStrangers();
}

main().then(() => process.exit(0)).catch((error) => {
  console.error(error);
  process.exit(1);
});
