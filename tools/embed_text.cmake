# Writes OUTPUT, a C++ file that defines the functions of launch/config/embedded_text.h: the texts of
# the list FILES, by their names, and the bytes of DESCRIPTORS.
#   cmake -DOUTPUT=FILE -DDESCRIPTORS=FILE -DFILES=A;B -P embed_text.cmake
set(entries "")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME)
  file(READ ${file} text)
  string(APPEND entries "    {\"${name}\", R\"embedded(${text})embedded\"},\n")
endforeach()
file(READ ${DESCRIPTORS} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"launch/config/embedded_text.h\"

namespace unipool {

absl::Span<const EmbeddedText> EmbeddedTexts() {
  static constexpr EmbeddedText kTexts[] = {
${entries}  };
  return kTexts;
}

absl::string_view ConfigDescriptors() {
  static constexpr char kBytes[] = \"${bytes}\";
  return absl::string_view(kBytes, sizeof(kBytes) - 1);
}

}  // namespace unipool
")
