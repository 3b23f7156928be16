// Forward declarations of the messages of configs/*.proto: headers name messages without including
// generated code, which costs every source that includes them half a second.
#pragma once

namespace unipool::config {

class Checkpoint;
class Data;
class Divergence;
class Eval;
class Manifest;
class Manifest_File;
class Manifest_StoredTensor;
class Pool;
class Run;
enum Manifest_Part : int;

}  // namespace unipool::config
