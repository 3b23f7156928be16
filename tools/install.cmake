# What `cmake --install build --prefix P` writes. The man page and the completions are written by the
# installed program's own table of commands when it is installed.
#   P/bin/unipool, P/bin/unipool-mpirun (launch/mpirun.sh)
#   P/share/unipool/configs, P/share/unipool/slurm
#   P/share/man/man1/unipool.1, completions of bash and zsh
include(GNUInstallDirs)
set(data ${CMAKE_INSTALL_DATADIR})
# Libraries outside the system's folders are found where they were linked.
set_target_properties(unipool PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS unipool RUNTIME)
install(PROGRAMS launch/mpirun.sh DESTINATION ${CMAKE_INSTALL_BINDIR} RENAME unipool-mpirun)
install(PROGRAMS launch/slurm/train.sbatch DESTINATION ${data}/unipool/slurm)
install(DIRECTORY configs DESTINATION ${data}/unipool
  FILES_MATCHING PATTERN "*.textproto" PATTERN "run.proto")

set(generated ${CMAKE_BINARY_DIR}/install)
file(MAKE_DIRECTORY ${generated})
foreach(text "man;unipool.1" "bash;unipool" "zsh;_unipool")
  list(GET text 0 kind)
  list(GET text 1 file)
  install(CODE "execute_process(COMMAND \"$<TARGET_FILE:unipool>\" help --${kind}
    OUTPUT_FILE \"${generated}/${file}\" COMMAND_ERROR_IS_FATAL ANY)")
endforeach()
install(FILES ${generated}/unipool.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${generated}/unipool DESTINATION ${data}/bash-completion/completions)
install(FILES ${generated}/_unipool DESTINATION ${data}/zsh/site-functions)
